"""Trainings as jobs of SLURM, by submitit."""

import math
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wgf.runs.sweeps.engines import Command, Handle, missing
from wgf.runs.sweeps.process import Restartable

__all__ = ["Slurm"]

MINUTES = 24 * 60
AGAIN = 100  # times that a job goes on after its time limit


class Slurm:
    """Jobs that the scheduler holds; one that it interrupts, or whose time is over, saves and is queued again.

    ``options`` are submitit's parameters; ``cluster: local`` runs the jobs on this machine, to try a file where there is no scheduler.
    **Raises** ValueError where submitit or SLURM is not installed, or a parameter is unknown.
    """

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise missing("slurm") from None
        given = dict(options)
        cluster = given.pop("cluster", "slurm")
        if cluster == "slurm" and shutil.which("srun") is None:
            raise ValueError("this machine has no srun: call wgf sweep where SLURM's commands are, or choose --engine local")
        try:
            self._executor = submitit.AutoExecutor(folder / "jobs", cluster=cluster, slurm_max_num_timeout=AGAIN)
            self._given = {"timeout_min": MINUTES, "name": "wgf", **given}
            self._executor.update_parameters(**self._given)
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise ValueError(f"slurm is {dict(options)}: {' '.join(str(error).split())}") from None

    def start(self, command: Command) -> Handle:
        """Queues one."""
        needed = {"cpus_per_task": command.threads, "mem_gb": math.ceil(command.memory / 2**30), **self._given}
        self._executor.update_parameters(**needed)
        return _Job(self._executor.submit(Restartable(), command.args, str(command.log.absolute()), os.getcwd()))


class _Job:
    def __init__(self, job: Any) -> None:
        self._job = job

    def poll(self) -> int | None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except FailedJobError as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from None
        except UncompletedJobError:  # cancelled, or its machine died
            return -signal.SIGKILL

    def terminate(self) -> None:
        self._job.cancel(check=False)

    def kill(self) -> None:
        self._job.cancel(check=False)
