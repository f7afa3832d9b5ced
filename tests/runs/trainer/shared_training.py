"""A program of ranks: ``wgf`` with a back end that is missing where NOGLOO stands in the environment.

A rank that DIES names gets a SIGNAL, by default one that kills, before the collection of number AT, by the first attempt of torchrun.
"""

import os
import signal

from wgf import ranks
from wgf.agents.training.population import Population
from wgf.agents.training.rollout import Rollout
from wgf.runs.command.answers import launch
from wgf.runs.command.cli import run


def mortal(collect):
    """Collecting, before which this rank is killed, if it is to be."""

    def killed(self, act):
        killed.times += 1
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first and killed.times == int(os.environ.get("AT", "0")) and os.environ["RANK"] == os.environ.get("DIES"):
            os.kill(os.getpid(), signal.Signals[os.environ.get("SIGNAL", "SIGKILL")])
        return collect(self, act)

    killed.times = 0
    return killed


if __name__ == "__main__":
    if "NOGLOO" in os.environ:
        ranks.BACKENDS["cpu"] = "gloo", lambda: False
    for memory in (Population, Rollout):
        memory.collect = mortal(memory.collect)
    launch(run)
