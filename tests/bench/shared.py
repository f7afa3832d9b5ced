"""Trainings that ranks share against processes alone: processor time of an iteration or update, on each rank, one thread each.

    python tests/bench/shared.py [--ranks 2] [--rounds 3] [--iterations 6] [--cases ...] [--beside TEXT] [--out FILE.md]

Processor time and not that of a clock, so that other work on the same cores counts little; a rank that waits asleep takes none. The same
processes train alone, all at once, and together, in turns, ``rounds`` times; of each training the first iteration is left out. The share is
the time of the slowest rank over the mean of the processes alone: 1 / ranks where nothing is done twice.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from timing import report, table

from wgf import ranks
from wgf.agents import Agent

CASES: dict[str, dict[str, Any]] = {
    "es, a task in tensors": {"agent": "es", "env": "wgf/PointWall-v0", "horizon": 200},
    "es, 4,000 policies": {"agent": "es", "env": "wgf/PointWall-v0", "horizon": 200, "pairs": 2000},
    "es, MuJoCo": {"agent": "es", "env": "InvertedPendulum-v5", "horizon": 100},
    "ip-wgf, a task in tensors": {"agent": "ip-wgf", "env": "wgf/CartPole-v0", "batch": 1000},
    "ip-wgf, MuJoCo": {"agent": "ip-wgf", "env": "InvertedPendulum-v5", "batch": 250},
}


def seconds(case: dict[str, Any], shards: bool, iterations: int) -> float:
    """The median processor time of an iteration in this process, alone or as one of the ranks."""
    at = list[float]()
    agent = Agent(**case, device="cpu", compile=False, log_every=1, eval_every=10**9, eval_episodes=1, shards=shards)
    size = agent.module.memory(agent.cfg, agent.schedule).size
    agent.train(size * (iterations + 2), lambda *_: at.append(time.process_time()))
    agent.close()
    return statistics.median(b - a for a, b in pairwise(at[:-1]))  # at the last there is an evaluation


def worker(cases: list[str], rounds: int, iterations: int) -> None:
    """One rank. The first prints, for each case, the turns of all ranks: of each round the seconds alone and shared."""
    torch.set_num_threads(1)
    group = ranks.joined(torch.device("cpu"))
    for case in cases:
        turns = group.told([[seconds(CASES[case], shards, iterations) for shards in (False, True)] for _ in range(rounds)])
        if group.rank == 0:
            print(json.dumps(turns), flush=True)


def started(size: int, cases: list[str], rounds: int, iterations: int) -> Iterator[list[list[list[float]]]]:
    """Gives what the first rank prints, a case after another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", f"--rounds={rounds}", f"--iterations={iterations}", "--cases", *cases]
    runs = [
        subprocess.Popen(command, env={**os.environ, **about, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True) for rank in range(size)
    ]
    yield from map(json.loads, runs[0].stdout or [])
    if any([run.wait() for run in runs]):
        sys.exit("a rank failed")


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--beside", default="nothing")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.worker:
        worker(args.cases, args.rounds, args.iterations)
        return
    rows = []
    for case, each in zip(args.cases, started(args.ranks, args.cases, args.rounds, args.iterations), strict=True):
        turns = [
            (statistics.mean(alone), max(shared)) for alone, shared in (zip(*of_round, strict=True) for of_round in zip(*each, strict=True))
        ]
        shares = [mine / one for one, mine in turns]
        one, mine = (statistics.median(column) for column in zip(*turns, strict=True))
        share = f"{statistics.median(shares):.2f} [{min(shares):.2f}, {max(shares):.2f}]"
        rows.append({"training": case, "one process, s": f"{one:.3f}", "the slower rank, s": f"{mine:.3f}", "share": share})
        print(rows[-1], flush=True)
    text = f"""{args.ranks} ranks by gloo, one thread each; processor seconds of an iteration of `es` (100 policies where no
number stands) and an update of `ip-wgf` (16), medians over {args.iterations} of them and {args.rounds} rounds in turns; the share is
the median over rounds, with the least and the largest. Beside it ran: {args.beside}.

{table(rows)}"""
    report(args.out, f"Trainings that {args.ranks} ranks share", text, ("torch", "numpy", "gymnasium", "mujoco"))


if __name__ == "__main__":
    main()
