"""Trainings that ranks share against one process: processor time of an iteration or update, on each rank, one thread each.

    python tests/bench/shared.py [--ranks 2] [--rounds 3] [--iterations 6] [--beside TEXT] [--out FILE.md]

Processor time and not that of a clock, so that other work on the same cores counts little; a rank that waits asleep takes none. One
process and all ranks take turns, ``rounds`` times; of each run the first iteration is left out. The share is a rank's time over that
of one process: 1 / ranks where nothing is done twice.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from timing import report, table

from wgf.agents import Agent

CASES: dict[str, dict[str, Any]] = {
    "es, a task in tensors": {"agent": "es", "env": "wgf/PointWall-v0", "horizon": 200},
    "es, a task in tensors, 4,000 policies": {"agent": "es", "env": "wgf/PointWall-v0", "horizon": 200, "pairs": 2000},
    "es, MuJoCo": {"agent": "es", "env": "InvertedPendulum-v5", "horizon": 100},
    "ip-wgf, a task in tensors": {"agent": "ip-wgf", "env": "wgf/CartPole-v0", "batch": 1000},
    "ip-wgf, MuJoCo": {"agent": "ip-wgf", "env": "InvertedPendulum-v5", "batch": 250},
}


def worker(case: str, iterations: int) -> None:
    """Prints the median processor time of an iteration on this rank, in seconds."""
    torch.set_num_threads(1)
    shards, at = "RANK" in os.environ, list[float]()
    agent = Agent(**CASES[case], device="cpu", compile=False, log_every=1, eval_every=10**9, eval_episodes=1, shards=shards)
    size = agent.module.memory(agent.cfg, agent.schedule).size
    agent.train(size * (iterations + 2), lambda *_: at.append(time.process_time()))
    print(statistics.median(b - a for a, b in pairwise(at[:-1])))  # at the last there is an evaluation


def started(case: str, ranks: int, iterations: int) -> list[float]:
    """What each rank printed; one process alone is none of torchrun's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {**os.environ, "OMP_NUM_THREADS": "1"}
    if ranks > 1:
        about |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, __file__, "--worker", case, f"--iterations={iterations}"]
    each = [{"RANK": str(rank)} if ranks > 1 else {} for rank in range(ranks)]
    runs = [subprocess.Popen(command, env={**about, **mine}, stdout=subprocess.PIPE, text=True) for mine in each]
    found = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        sys.exit("a rank failed")
    return [float(text) for text in found]


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--beside", default="nothing")
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.iterations)
        return
    rows = []
    for case in CASES:
        turns = [(started(case, 1, args.iterations)[0], max(started(case, args.ranks, args.iterations))) for _ in range(args.rounds)]
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
