"""A cost model of SVGD's step in shards: a law of time and memory in particles, dimension and ranks, checked on sizes it was not fitted to.

    python tests/bench/shard_costs.py [--rounds 3] [--beside WORDS] [--out FILE.md]    # and FILE.png, FILE.pdf

Two processes joined by gloo, as torchrun starts them, one thread each. In every round each size takes one step whole, in both processes at
once, and one step in two shards. Time is processor time of the first process, all of its threads: what other work takes of the cores is not
in it, and neither is waiting. Memory is the peak of a step beyond what the process held before it had particles.

The law counts what a rank with m of M particles in d dimensions does, n of which the median looks at: multiply-adds of matrix products,
pairs of particles, numbers of all particles, and where there are several ranks the numbers that it gathers. Its coefficients are fitted by
least squares of the relative error, none below 0.
"""

import argparse
import ctypes
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from shards import peak, resident, step
from timing import report, table

from wgf import ranks
from wgf.kernels import BLOCK, SUBSAMPLE
from wgf.runs.trainer.figures import figure
from wgf.shards import ALONE, Shards

SIZES = [(m, d) for m in (512, 1024, 2560) for d in (16, 64, 128)]
HELD_OUT = [(700, 100), (1500, 32), (3200, 96)]
PEAK, NVLINK, NETWORK, REACHED = 67e12, 450e9, 50e9, 0.5  # of an H100 SXM, by its maker: flop/s in float64, bytes/s; the share we expect
Row = Sequence[float]


def counts(m: int, d: int, p: int) -> dict[str, float]:
    """What one of p ranks does in a step of m particles in d dimensions."""
    own, n = m / p, math.ceil(m / math.ceil(m / SUBSAMPLE))
    few = m <= SUBSAMPLE  # then the median looks at all, and their distances are the kernel's
    return {
        "multiply-adds": d * (own * m + (m * m if few else own * m + n * n / 2)),
        "pairs": own * m * (1 if few else 2),  # their distances, and what is made of them
        "numbers": float(m * d),
        "gathered": 2.0 * m * d * (p > 1),
        "pairs of the median": float(m * m if few else n * n / 2),
        "own numbers": own * d,
        "block": min(own * m, BLOCK),
        "step": 1.0,
        "collective": float(p > 1),
    }


TIME = ("step", "multiply-adds", "pairs", "pairs of the median", "numbers", "collective", "gathered")
MEMORY = ("step", "numbers", "own numbers", "gathered", "pairs of the median", "block")


def fitted(names: Sequence[str], found: Mapping[tuple[int, int, int], float]) -> dict[str, float]:
    """The coefficients of a law."""
    rows = np.array([[counts(*size)[name] for name in names] for size in found])
    y = np.array(list(found.values()))
    scale = np.abs(rows).max(0)
    solution, _ = nnls(rows / scale / y[:, None], np.ones(len(y)))
    return dict(zip(names, (solution / scale).tolist(), strict=True))


def law(coefficients: Mapping[str, float], m: int, d: int, p: int) -> float:
    """What a law says of a size."""
    return sum(c * counts(m, d, p)[name] for name, c in coefficients.items())


def rank(rounds: int) -> None:
    """One of the two processes; the first prints [m, d, ranks, median seconds, bytes] for each size, as JSON."""
    torch.set_num_threads(1)
    group, trim = ranks.joined(torch.device("cpu")), ctypes.CDLL(None).malloc_trim
    times: dict[tuple[int, int, int], list[float]] = {}
    held: dict[tuple[int, int, int], list[int]] = {}
    for turn in range(rounds + 1):
        for m, d in [*SIZES, *HELD_OUT]:
            for shards in (ALONE, Shards.even(group, m)):
                size = m, d, shards.group.size
                trim(0)
                before = resident()
                Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
                x = shards.mine(0.1 * torch.randn(m, d, generator=torch.Generator().manual_seed(0))).clone()
                group.told("")  # all begin together
                start = time.process_time()
                step(shards, lambda theta: -theta, x)
                spent = time.process_time() - start
                if turn:  # the first warms up
                    times.setdefault(size, []).append(spent)
                    held.setdefault(size, []).append(peak() - before)
                del x
    if group.rank == 0:
        print(json.dumps([[*size, statistics.median(spent), statistics.median(held[size])] for size, spent in times.items()]))


def measured(rounds: int) -> list[list[float]]:
    """What the first process found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", "--rounds", str(rounds)]
    runs = [subprocess.Popen(command, env={**os.environ, **about, "RANK": str(r)}, stdout=subprocess.PIPE, text=True) for r in range(2)]
    texts = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        sys.exit("a rank failed")
    found: list[list[float]] = json.loads(texts[0])
    return found


def on_gpus(m: int, d: int, p: int, bandwidth: float) -> float:
    """Seconds of a step on p GPUs by paper: the multiply-adds of the law, then the gathered numbers in float32 through each GPU's link."""
    what = counts(m, d, p)
    return 2.0 * what["multiply-adds"] / (REACHED * PEAK) + 4.0 * what["gathered"] * (p - 1) / p / (REACHED * bandwidth)


def efficiency(m: int, d: int, p: int, bandwidth: float) -> float:
    """How many of the p GPUs' steps are not lost."""
    return on_gpus(m, d, 1, bandwidth) / (p * on_gpus(m, d, p, bandwidth))


def drawn(file: Path, seconds: Mapping[tuple[int, int, int], float], says: Callable[[int, int, int], float]) -> None:
    """The law beside what was measured, and the efficiency on GPUs by paper."""
    with figure(file, columns=2) as axes:
        left, right = axes[0]
        for p, marker in ((1, "C0o"), (2, "C1s")):
            for chosen, fill, text in ((SIZES, "none", "fitted"), (HELD_OUT, "full", "held out")):
                mine = [size for size in seconds if size[2] == p and size[:2] in chosen]
                style = {"fillstyle": fill, "label": f"{p} rank{'s' * (p > 1)}, {text}"}
                left.loglog([says(*size) for size in mine], [seconds[size] for size in mine], marker, **style)
        ends = [min(seconds.values()), max(seconds.values())]
        left.loglog(ends, ends, "k-", linewidth=0.8)
        left.set(xlabel="law, processor seconds per step and rank", ylabel="measured")
        each = [1, 2, 4, 8, 16, 32, 64]
        for m in (2**14, 2**16, 2**18, 2**20):
            right.semilogx(each, [efficiency(m, 1000, p, NVLINK if p <= 8 else NETWORK) for p in each], label=f"{m:,} particles")
        right.set(xlabel="GPUs, eight per machine", ylabel="efficiency, on paper", ylim=(0.0, 1.05), xticks=each, xticklabels=each)


def main() -> None:
    """Prints the tables, and writes them and the figure where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", default="nothing")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.worker:
        rank(args.rounds)
        return
    found = {(int(m), int(d), int(p)): (spent, held) for m, d, p, spent, held in measured(args.rounds)}
    seconds, held = ({size: pair[i] for size, pair in found.items()} for i in (0, 1))
    laws = []
    for names, values in ((TIME, seconds), (MEMORY, held)):
        laws.append(fitted(names, {size: value for size, value in values.items() if size[:2] in SIZES}))
    rows, errors = [], {True: [[], []], False: [[], []]}  # type: ignore[var-annotated]
    for size, (spent, kept) in found.items():
        off = [law(coefficients, *size) / value - 1.0 for coefficients, value in zip(laws, (spent, kept), strict=True)]
        for i in (0, 1):
            errors[size[:2] in HELD_OUT][i].append(abs(off[i]))
        rows.append(
            {
                "particles": f"{size[0]:,}",
                "dimensions": str(size[1]),
                "ranks": str(size[2]),
                "fitted": "no" if size[:2] in HELD_OUT else "yes",
                "ms": f"{1e3 * spent:.1f}",
                "law / measured": f"{1.0 + off[0]:.2f}",
                "MiB": f"{kept / 2**20:.1f}",
                "law / measured, memory": f"{1.0 + off[1]:.2f}",
            }
        )
    units = {name: ", ".join(f"{c:.3g} for each of {what}" for what, c in one.items()) for name, one in zip(("s", "B"), laws, strict=True)}
    middle = {out: [f"{100 * statistics.median(e):.0f} % (at most {100 * max(e):.0f} %)" for e in both] for out, both in errors.items()}
    paper = [
        {
            "particles": f"{m:,}",
            "one GPU, s": f"{on_gpus(m, 1000, 1, NETWORK):.3g}",
            "8 GPUs, efficiency": f"{efficiency(m, 1000, 8, NVLINK):.2f}",
            "64 GPUs, s": f"{on_gpus(m, 1000, 64, NETWORK):.3g}",
            "64 GPUs, efficiency": f"{efficiency(m, 1000, 64, NETWORK):.2f}",
            "each of 64, GiB": f"{law(laws[1], m, 1000, 64) / 2**30:.1f}",
        }
        for m in (2**14, 2**16, 2**18, 2**20)
    ]
    text = f"""Two processes by gloo, one thread each, float32, the score of N(0, I), seed 0; {args.rounds} rounds in turns after one to
warm up, medians. Processor time and peak memory of the first process. Beside it ran: {args.beside}.

Seconds: {units["s"]}.

Bytes: {units["B"]}.

Error of the law, median over sizes: time {middle[False][0]} where it was fitted, {middle[True][0]} where it was not;
memory {middle[False][1]} and {middle[True][1]}.

{table(rows)}

On paper, 1,000 dimensions, GPUs with {PEAK:.3g} flop/s in float64, {NVLINK:.3g} bytes/s between the eight of a machine and {NETWORK:.3g}
beyond, of which {REACHED:g} is reached:

{table(paper)}"""
    report(args.out, "What a step in shards costs", text, ("torch", "numpy", "scipy"))
    if args.out:
        drawn(args.out.with_suffix(".png"), seconds, lambda *size: law(laws[0], *size))


if __name__ == "__main__":
    main()
