"""A program of ranks: ``wgf bnn`` on a set that is fitted in a moment, with a checkpoint whenever one may be taken.

A rank that the variable DIES names is killed in the midst of a fit, by the first attempt of torchrun.
"""

import os
import signal
import sys

from wgf.bnn import data
from wgf.bnn.steps import Steps
from wgf.runs.command.cli import run
from wgf.runs.studies import bnn_diary

STEP = 101  # between two checkpoints


def mortal(take):
    """A step before which this rank is killed, if it is to be."""

    def step(self):
        if self.step == STEP and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0" and os.environ["RANK"] == os.environ.get("DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        take(self)

    return step


if __name__ == "__main__":
    data.SETS["small"] = data.Set(60, 2, "nothing", None, splits=3, hidden=7, batch=16)
    bnn_diary.SELDOM, bnn_diary.SHARE = 0.0, 0.0
    Steps.take = mortal(Steps.take)
    sys.exit(run(sys.argv[1:]))
