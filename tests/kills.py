"""Kills trainings, starts each again with the same command, and compares the bytes with those of a training that was never stopped.

    python tests/kills.py --kills 200 --inside 40

Each case is an agent, an environment and 1 or 3 seeds, with networks as small as a test's. A kill is a SIGKILL at a random moment, or
inside a save: where half of a file is written, before it is flushed to the disk, before it gets its name, and after. A case is killed
five times before it may end. What has to be equal, bit by bit: policies, checkpoints (states, optimisers, generators, replay,
environments), metrics.csv but for rates, and the scalars that TensorBoard reads. Exits with 1 unless all are.
"""

import argparse
import builtins
import logging
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wgf.agents.registry import AGENTS, find
from wgf.agents.training import checkpoint
from wgf.agents.training.folder import checkpoints, newest
from wgf.runs.command import cli
from wgf.snapshot import parted

SMALL = {
    "hidden": "8,8", "critic_hidden": "8,8", "particles": 4, "value_particles": 4, "samples": 2, "copy_every": 5, "critic_steps": 2,
    "epochs": 2, "cg_steps": 3, "pairs": 2, "envs": 2, "horizon": 20, "fisher": 4, "batch": 8,
}  # fmt: skip
ENVS = ("Pendulum-v1", "Hopper-v5", "wgf/CartPole-v0")
RATE = "charts/steps_per_second"


def command(agent: str, env: str, seeds: int, steps: int = 240, preset: str = "paper") -> list[str]:
    """Returns the arguments of `wgf` that train a case; it saves every 40 steps and at evaluations every 60."""
    known = {f.name for f in fields(find(agent, preset)[1])}
    small = [part for name, value in SMALL.items() if name in known for part in (f"--{name.replace('_', '-')}", str(value))]
    schedule = {"steps": steps, "warmup": 20, "log-every": 25, "eval-every": 60, "checkpoint-every": 40, "eval-episodes": 1, "threads": 1}
    every = [part for name, value in schedule.items() for part in (f"--{name}", str(value))]
    return ["train", agent, "--preset", preset, "--env", env, "--seeds", str(seeds), *small, *every]


def started(args: list[str], folder: Path, at: int = 0) -> int:
    """Starts a command in a folder, in a process of its own that kills itself inside its save number ``at``; returns the process."""
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    log = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
    moments = count(1)

    def moment() -> None:
        if next(moments) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        watch(moment)
        code = cli.run(args)
    finally:
        Path("moments.txt").write_text(str(next(moments) - 1))
        os._exit(code)


def watch(moment: Any) -> None:
    """Makes every write, flush to the disk and rename of a file that is written whole call ``moment``."""
    fsync, replace, real = os.fsync, os.replace, builtins.open

    def synced(fd: int) -> None:
        moment()
        fsync(fd)

    def replaced(a: Any, b: Any) -> None:
        moment()
        replace(a, b)
        moment()

    class Halved:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Halved":
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            moment()
            self.file.write(data[len(data) // 2 :])

    def opened(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        file = real(path, mode, *more, **options)
        return Halved(file) if mode == "wb" else file

    os.fsync, os.replace = synced, replaced
    checkpoint.open = opened  # type: ignore[attr-defined]


def ended(process: int, after: float | None = None) -> bool:
    """Waits for a process, or kills it after some seconds; says whether it was killed. Raises RuntimeError where it failed."""
    deadline = time.monotonic() + (after if after is not None else 600.0)
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            return os.WIFSIGNALED(os.waitpid(process, 0)[1])
        time.sleep(0.002)
    if os.WIFEXITED(found[1]) and os.WEXITSTATUS(found[1]):
        raise RuntimeError(f"a command ended with {os.WEXITSTATUS(found[1])}")
    return os.WIFSIGNALED(found[1])


def left(folder: Path) -> dict[str, Any]:
    """Returns what a training left that has to be equal bit by bit, by name."""
    (agent,) = (path for path in folder.glob("runs/main/*/*") if path.is_dir())
    seeds = sorted(int(path.name[5:]) for path in agent.glob("seed-*") if path.name[5:].isdigit())
    found: dict[str, Any] = {}
    for seed in seeds:
        mine = agent / f"seed-{seed}"
        about, tensors = checkpoint.load(mine)
        found |= {f"{seed} policy {name}": t for name, t in tensors.items()} | {f"{seed} step": about["step"]}
        found[f"{seed} metrics"] = [row for row in (mine / "metrics.csv").read_text().splitlines() if f",{RATE}," not in row]
        events = EventAccumulator(str(mine), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found[f"{seed} scalar {tag}"] = [e.step if tag == RATE else (e.step, e.value) for e in events.Scalars(tag)]
    saved = newest(checkpoints(agent, seeds))
    record = saved.snapshot.pop("record")
    record["latest"].pop(RATE)
    saved.snapshot["health"].pop("damaged_checkpoints", None)  # which follows from how it was stopped
    tensors, facts = parted({**saved.snapshot, "latest": record["latest"], "endings": record["endings"]})
    found |= {f"checkpoint {name}": t for name, t in tensors.items()} | {"checkpoint": facts}
    pieces = list(saved.pieces())
    for piece in pieces:  # a row is numbered from the ring's beginning on, however the pieces are cut; the last one knows which still count
        at, oldest = 0, pieces[-1]["oldest"].tolist()
        for ring, (first, last) in enumerate(zip(piece["first"].tolist(), piece["last"].tolist(), strict=True)):
            for row in range(first, last):
                if row >= oldest[ring]:
                    found[f"row {ring} {row}"] = torch.cat([piece["data"][at], piece["ends"][at : at + 1].float()])
                at += 1
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Returns the names of what is not equal."""
    names = [*one, *(name for name in other if name not in one)]

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        return type(a) is type(b) and bool(a == b)

    return [name for name in names if not equal(one.get(name), other.get(name))]


def case(args: list[str], kills: int, inside: int, rng: random.Random, folder: Path) -> tuple[int, int, list[str]]:
    """Trains a case without a break and with ``kills`` kills, ``inside`` of them inside saves; returns both counts and what differs."""
    calm, hard = folder / "calm", folder / "hard"
    calm.mkdir(), hard.mkdir()
    began = time.monotonic()
    ended(started(args, calm))
    seconds, moments = time.monotonic() - began, int((calm / "moments.txt").read_text())
    done, ahead = [0, 0], moments
    rest = [True] * (inside - 2) + [False] * (kills - inside)
    rng.shuffle(rest)
    for k, save in enumerate([True, True, *rest]):
        share = (kills - k) / (kills + 1)  # what is left of the training, about
        at, after = (rng.randint(1, max(1, int(share * moments))), None) if save else (0, rng.uniform(0.0, share * seconds))
        if k < 2:  # by a count, of the moments that are left at least, so that there are two
            at = rng.randint(1, max(1, ahead // 2))
            ahead -= at
        if ended(started(args, hard, at), after):
            done[save] += 1
    ended(started(args, hard))
    return done[0], done[1], differences(left(calm), left(hard))


def main() -> None:
    """Runs the cases in turn until there have been as many kills as asked for, and says how many ended in the same bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--inside", type=int, default=40, help="kills inside saves, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--agents", nargs="+", default=sorted(AGENTS))
    parser.add_argument("--envs", nargs="+", default=ENVS)
    parser.add_argument("--preset", default="paper", help="preset of the agents")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # which tells of every purge
    rng = random.Random(args.seed)
    total, within, wrong, tried = 0, 0, 0, 0
    cases = [(agent, env, seeds) for seeds in (1, 3) for env in args.envs for agent in args.agents]
    while total < args.kills or within < args.inside:
        agent, env, seeds = cases[tried % len(cases)]
        with tempfile.TemporaryDirectory() as folder:
            moments, saves, odd = case(command(agent, env, seeds, preset=args.preset), 5, 2, rng, Path(folder))
        tried, total, within = tried + 1, total + moments + saves, within + saves
        wrong += bool(odd)
        print(f"{agent} {env} {seeds} seed(s): {moments} kills at random, {saves} inside saves, {odd[:3] or 'equal'}", flush=True)
    print(f"{tried} trainings, {total} kills, {within} of them inside saves: {tried - wrong} ended in the same bytes")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
