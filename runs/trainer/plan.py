"""Looks whether a run that is planned has what it needs: memory, room on a disk, and a folder that can be written."""

import shutil
from collections.abc import Iterator

from wgf.agents.training import machine, needs
from wgf.agents.training.description import Description
from wgf.limits import size
from wgf.runs.command.doctor import Finding, unwritable
from wgf.runs.trainer.training import Job, length, words

__all__ = ["plan"]


def plan(job: Job) -> Iterator[Finding]:
    """Returns a line for what is planned, and for each thing that it needs. Raises ValueError as ``wgf train`` does."""
    place, schedule = job.place, job.schedule
    agent = Description(job.agent, job.env, job.seeds, job.preset, place.device, place.backend, job.settings(), {})
    yield Finding("run", f"{job.label} on {job.env}: {words(job.seeds)}, {length(schedule, agent.module.memory(agent.cfg, schedule))[1]}")
    needed, free = needs.memory(agent, schedule), machine.free_memory(agent.device)
    found = f"takes {size(needed)} of memory, or more, on {agent.device}, where {size(free)} are free"
    if needed > free:
        yield Finding("run", found, "give a smaller --replay, --batch or --hidden, or fewer --seeds", stops=True)
        return
    yield Finding("run", found)
    folder = job.folder(job.seeds[0]).parent
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if reason := unwritable(there):
        yield Finding("run", f"{there} cannot be written: {reason}", "give another --out", stops=True)
        return
    needed, free = needs.disk(agent, schedule), shutil.disk_usage(there).free
    found = f"writes up to {size(needed)} into {folder}, where {size(free)} are free"
    yield Finding("run", found, "give a smaller --replay, or an --out on another disk" if needed > free else "", stops=needed > free)
