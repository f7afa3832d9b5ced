"""Trainings as tasks of a Ray cluster, or of this machine where there is none."""

import os
import signal
from collections.abc import Mapping
from typing import Any

from wgf.runs.command.answers import STOPPED
from wgf.runs.sweeps.engines import Command, Handle, missing
from wgf.runs.sweeps.process import completed

__all__ = ["Ray"]

RETRIES = 3  # of a task whose worker or machine died


class Ray:
    """Ray's core tasks: the cluster that RAY_ADDRESS names or that runs on this machine, else one that begins and ends with this process.

    Each machine sees the same folders. **Raises** ValueError where Ray is not installed, or does not take an option.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own is 15: trainings would starve beside anything else
        try:
            import ray
        except ImportError:
            raise missing("ray") from None
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._ray, self._task, self._options = ray, ray.remote(completed), {"max_retries": RETRIES, **options}
        try:
            self._task.options(**self._options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"ray is {dict(options)}: {error}") from None

    def start(self, command: Command) -> Handle:
        """Queues one, which begins where so many processors and so much memory are free."""
        needed = {"num_cpus": command.threads, "memory": int(command.memory), **self._options}
        task = self._task.options(**needed).remote(command.args, str(command.log.absolute()), os.getcwd())
        return _Task(self._ray, task)


class _Task:
    def __init__(self, ray: Any, task: Any) -> None:
        self._ray, self._task = ray, task

    def poll(self) -> int | None:
        done, _ = self._ray.wait([self._task], timeout=0)
        if not done:
            return None
        errors = self._ray.exceptions
        try:
            return int(self._ray.get(self._task))
        except errors.TaskCancelledError:
            return STOPPED
        except errors.RayTaskError as error:
            raise ValueError(" ".join(str(error.cause).split())) from None
        except errors.RayError:  # its worker or its machine died, again and again
            return -signal.SIGKILL

    def terminate(self) -> None:
        self._ray.cancel(self._task)

    def kill(self) -> None:
        self._ray.cancel(self._task, force=True)
