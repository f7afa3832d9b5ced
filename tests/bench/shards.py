"""Sharded SVGD against as many independent processes: speed, memory and collectives, one thread each.

    nice -n -15 python tests/bench/shards.py [--ranks 2] [--particles 4096] [--dim 1000] [--rounds 7] [--out FILE.md]

Two things take turns: all ranks take one step of M particles together, and each rank takes a step of M particles of its own, as
independent processes do, at the same time. The efficiency is the time of the independent steps over ranks times that of the shared one:
1 where P ranks take P times as many shared steps as one process beside the others does. A step has the score, the velocity and the
update, in float32. Two scores: that of a standard normal, which costs nothing, and that of networks, particles of Bayesian regression
on a minibatch of 100 rows, whose units take memory as a fit's do. ``--rounds 0`` measures the memory alone.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from timing import report, table
from torch import Tensor

from wgf import ranks, svgd
from wgf.bnn import Settings
from wgf.shards import ALONE, Shards

LR, ROWS = 1e-7, 100


def scores(dim: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """The scores by name, of particles (M, dim)."""
    g = torch.Generator().manual_seed(1)
    units = (dim - 3) // 20  # weights of 18 features, units, one output: 20 for each unit, and one bias
    model = Settings(hidden=(units,)).model(18)
    spare = dim - model.numbers
    x, y, w = torch.randn(1, ROWS, 18, generator=g), torch.randn(1, ROWS, 1, generator=g), torch.ones(1, ROWS)

    def networks(theta: Tensor) -> Tensor:
        found = model.score(theta[None, :, : model.numbers], x, y, w, ROWS)[0]
        return torch.nn.functional.pad(found, (0, spare))

    return {"normal": lambda theta: -theta, "networks": networks}


def step(shards: Shards, score: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """x += lr phi, in place."""
    x.add_(shards.velocity(svgd.velocity, x, score(x)), alpha=LR)


def peak() -> int:
    """The peak of this process's memory, in bytes."""
    return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def resident() -> int:
    """What it holds now, in bytes."""
    return 1024 * next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))


def rank(args: argparse.Namespace) -> None:
    """One process: ``memory`` NAME prints the peak of two steps beyond what was held before; ``speed`` NAME prints seconds."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ["RANK"]) % len(cores)]})
    group = ranks.joined(torch.device("cpu"))
    shards = Shards.even(group, args.particles) if group.size > 1 else ALONE
    score = scores(args.dim)[args.score]
    draw = partial(torch.randn, args.particles, args.dim, generator=torch.Generator().manual_seed(0))
    if args.worker == "memory":
        score(torch.randn(2, args.dim))  # what is loaded at a first call
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident()
        x = torch.randn(*shards.mine(torch.empty(args.particles, 0)).shape[:1], args.dim)
        for _ in range(2):
            step(shards, score, x)
        print(peak() - before)
        return
    whole = 0.1 * draw()
    mine = shards.mine(whole).clone()
    cases = {"shared": lambda: step(shards, score, mine), "independent": lambda: step(ALONE, score, whole)}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(args.rounds + 1):
        for name, call in cases.items():
            group.told("")  # all begin together
            start = time.perf_counter()
            call()
            each = group.told(time.perf_counter() - start)
            spent = max(each) if name == "shared" else statistics.mean(each)
            if turn:
                times[name].append(spent)
    counted = [0]
    real = ranks._all_gather
    ranks._all_gather = lambda *a: (counted.__setitem__(0, counted[0] + 1), real(*a))[1]
    step(shards, score, mine)
    if group.rank == 0:
        each = [i / (group.size * s) for i, s in zip(times["independent"], times["shared"], strict=True)]
        low, middle, high = statistics.quantiles(each, n=4)
        print(statistics.median(times["shared"]), statistics.median(times["independent"]), middle, low, high, counted[0])


def started(args: argparse.Namespace, size: int, worker: str, score: str) -> list[list[float]]:
    """The numbers that each rank printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    options = [f"--{name}={getattr(args, name)}" for name in ("particles", "dim", "rounds")]
    command = [sys.executable, __file__, *options, "--worker", worker, "--score", score]
    runs = [subprocess.Popen(command, env={**os.environ, **about, "RANK": str(r)}, stdout=subprocess.PIPE, text=True) for r in range(size)]
    found = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        sys.exit("a rank failed")
    return [list(map(float, text.split())) for text in found]


def main() -> None:
    """Prints the tables, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--particles", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--beside", default="nothing")
    parser.add_argument("--worker", choices=("memory", "speed"), help=argparse.SUPPRESS)
    parser.add_argument("--score", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.worker:
        rank(args)
        return
    rows = []
    for score in ("normal", "networks"):
        row = {"score": score}
        if args.rounds:
            shared, alone, middle, low, high, count = started(args, args.ranks, "speed", score)[0]
            row |= {
                "shared step, s": f"{shared:.2f}",
                "independent step, s": f"{alone:.2f}",
                "efficiency": f"{middle:.2f} [{low:.2f}, {high:.2f}]",
                "collectives": f"{count:.0f}",
            }
        one = started(args, 1, "memory", score)[0][0]
        each = max(found[0] for found in started(args, args.ranks, "memory", score))
        row |= {
            "one process, MiB": f"{one / 2**20:.0f}",
            "each rank, MiB": f"{each / 2**20:.0f}",
            "ranks x each / one": f"{args.ranks * each / one:.2f}",
        }
        rows.append(row)
        print(rows[-1], flush=True)
    times = f""" {args.rounds} rounds in turns after one to warm up. Times are medians; the efficiency is the median over rounds, with its
middle half."""
    text = f"""{args.ranks} ranks on as many cores by gloo, {args.particles:,} particles x {args.dim:,} dimensions, float32, one thread
each.{times if args.rounds else ""}
Memory is the peak of two steps beyond what a process held before it had particles; the one process, too, gives large blocks back to the
system as the ranks do. Beside it ran: {args.beside}.

{table(rows)}"""
    report(args.out, f"SVGD in {args.ranks} shards", text, ("torch", "numpy"))


if __name__ == "__main__":
    main()
