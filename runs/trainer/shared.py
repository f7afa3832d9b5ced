"""One training on the ranks that torchrun started: the first alone speaks and writes, and says what all of them cannot carry out."""

import sys
import time
import warnings
from collections.abc import Callable

import torch

from wgf import ranks
from wgf.agents.registry import find
from wgf.agents.training import machine
from wgf.agents.training.team import enlisted, facts
from wgf.runs.command.answers import FAILED, UNUSABLE
from wgf.runs.trainer.reuse import complete
from wgf.runs.trainer.training import Job

__all__ = ["shared", "spoken"]

LEAVE = 2.0  # seconds that the other ranks wait with their exit: at the first that leaves torchrun ends all, and rank 0 has to speak


def spoken(command: Callable[[], int]) -> int:
    """Runs what all ranks do; returns its exit code, or where a rank is lost 70. Raises on the first rank alone what all raise."""
    try:
        return command()
    except ranks.Lost as error:
        print(f"wgf: {error}; the same command goes on from the last checkpoint", file=sys.stderr)
        return FAILED
    except ValueError:
        if ranks.is_first():
            raise
        time.sleep(LEAVE)
        return UNUSABLE


def shared(job: Job, say: Callable[[str], None]) -> int:
    """Trains what is missing of a job, whose policies the ranks share out; returns an exit code. Raises ValueError as ``complete`` does."""
    torch.set_num_threads(job.threads())
    group = enlisted(job.agent, find(job.agent, job.preset)[0], job.schedule.normalize, machine.find_device(job.place.device))
    group.agree(facts({**job.identity(), "steps": job.schedule.steps, "seeds": list(job.seeds), **vars(job.place)}))
    with warnings.catch_warnings():
        if group.rank > 0:
            warnings.simplefilter("ignore")
        return complete([job], say, group)
