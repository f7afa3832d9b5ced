"""Trains for a long time in one process, and looks whether memory, file handles and threads stay as they are.

    python -m tests.soak --minutes 60

Half of the time one training goes on, with a replay that is full after the warm-up, a log, evaluations and checkpoints. In the other half
every agent is trained by `wgf train`, stopped at its steps, trained on from its checkpoint and shown by `wgf eval`, and a regressor is
fitted, saved and loaded, lap after lap. The first third of each half is its warm-up. Afterwards memory may move by 1 % of its least, and
neither the number of file handles nor that of threads may change. Exits with 1 unless that holds.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tests.kills import command
from wgf.agents import Agent
from wgf.agents.registry import AGENTS
from wgf.bnn import BayesianRegressor
from wgf.limits import resident, size
from wgf.runs.command import cli

MOVES = 0.01  # of the least memory after the warm-up
OFTEN = {"replay": 2_000, "warmup": 500, "log_every": 100, "eval_every": 500, "checkpoint_every": 500, "eval_episodes": 1}


class Look(NamedTuple):
    """What the process holds: bytes, file handles and threads."""

    memory: int
    handles: int
    threads: int


def look() -> Look:
    """Returns what this process holds now."""
    return Look(resident(), len(os.listdir("/proc/self/fd")) - 1, len(os.listdir("/proc/self/task")))


def verdict(what: str, looks: Sequence[Look]) -> tuple[bool, str]:
    """Says whether what was seen is flat after the first third, and how flat."""
    memory, handles, threads = (np.array(column) for column in zip(*looks[len(looks) // 3 :], strict=True))
    least, most = int(memory.min()), int(memory.max())
    flat = most <= (1.0 + MOVES) * least and np.ptp(handles) == np.ptp(threads) == 0
    counts = (f"{x.min()} to {x.max()}" if np.ptp(x) else f"{x.min()}" for x in (handles, threads))
    words = "{} file handles, {} threads".format(*counts)
    memory_words = f"memory {size(least)} to {size(most)}, {most / least - 1.0:.2%}"
    return bool(flat), f"{'flat' if flat else 'NOT FLAT'}: {what}: {memory_words}; {words}; {len(memory)} looks"


def long(seconds: float, folder: Path) -> tuple[bool, str]:
    """Trains once, and looks at every log."""
    looks, end = list[Look](), time.monotonic() + seconds
    agent = Agent("sac", "Hopper-v5", seeds=2, hidden=(64, 64), device="cpu", **OFTEN)

    def seen(step: int, metrics: object, agent: object) -> bool:
        looks.append(look())
        return time.monotonic() > end

    agent.learn(10**9, seen, folder)
    steps, ended = agent.step, set(agent.endings)
    agent.close()
    flat, words = verdict(f"sac on Hopper-v5, 2 seeds, {steps:,} steps", looks)
    return flat and ended == {"interrupted"}, words


def laps(seconds: float, folder: Path) -> tuple[bool, str]:
    """Trains every agent a little, again and again, and looks after each lap."""
    looks, end = list[Look](), time.monotonic() + seconds
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory(dir=folder) as home, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            lap(Path(home))
        looks.append(look())
    return verdict(f"{len(looks)} laps of {len(AGENTS)} agents and a regressor", looks)


def lap(home: Path) -> None:
    """Trains every agent, trains it on, shows it; fits a regressor, saves and loads it. Raises RuntimeError where a command fails."""
    for agent in AGENTS:
        for steps in (120, 240):
            done(*command(agent, "Pendulum-v1", 2, steps), "--out", str(home))
        done("eval", str(home / "main" / "Pendulum-v1" / agent / "seed-0"), "--episodes", "1")
    x = np.random.default_rng(0).standard_normal((60, 3))
    BayesianRegressor(particles=3, hidden=5, iterations=50, random_state=0).fit(x, x.sum(1)).save(home / "model.safetensors")
    BayesianRegressor.load(home / "model.safetensors").predict_interval(x)


def done(*args: str) -> None:
    """Runs `wgf` with arguments in this process."""
    if code := cli.run(list(args)):
        raise RuntimeError(f"wgf {' '.join(args)} ended with {code}")


def main() -> None:
    """Runs both halves, and prints a line for each and one for both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        found = []
        for half in (long, laps):
            (folder := Path(home) / half.__name__).mkdir()
            found.append(half(30.0 * minutes, folder))
            print(found[-1][1], flush=True)
    flat = all(each for each, _ in found)
    print(f"{'flat' if flat else 'NOT FLAT'} in {minutes:g} minutes")
    sys.exit(not flat)


if __name__ == "__main__":
    main()
