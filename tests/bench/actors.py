"""What an actor costs on the critic of strong-small, by its particles and its W2 term.

    python tests/bench/actors.py --out runs/results/speed/actors.md

Every ratio is of cases in turns in one run, as machine code on one thread. Minibatches and noise are drawn before the clock starts.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from timing import report, table
from updates import row, timed, update


def twice(call: Callable[[], object]) -> Callable[[], object]:
    """An update on one minibatch, for two."""
    return lambda: (call(), call())


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    sac = {
        "sac, modern": twice(update("sac", "modern", compile=True, batch=128)),
        "sac": update("sac", "strong-small", compile=True),
        "sac, policy_delay 1": twice(update("sac", "strong-small", compile=True, policy_delay=1)),
    }
    particles = {f"wgf-sac, {n} particles": update("wgf-sac", "strong-small", compile=True, particles=n) for n in (4, 8, 16, 32)}
    flows = {
        "wgf-sac, density": update("wgf-sac", "strong-small", compile=True, kl="density"),
        "wgf-sac, W2 common_noise": update("wgf-sac", "strong-small", compile=True, w2_scale=0.4),
        "wgf-sac, W2 eq9_sum": update("wgf-sac", "strong-small", compile=True, w2="eq9_sum", w2_scale=0.4),
        "dp-wgf-v": update("dp-wgf-v", "strong-small", compile=True),
        "wpo": update("wpo", "strong-small", compile=True),
        "dp-wgf": update("dp-wgf", "strong-small", compile=True),
        "dp-wgf, policy 128-128": update("dp-wgf", "strong-small", compile=True, policy_hidden=(128, 128)),
    }
    cases = {**sac, **particles, **flows}
    times = timed(cases, 1, args.rounds)
    rows = [row(times, name, "sac") for name in cases]

    text = "Batch 128, two minibatches per update. Medians of the rounds; ratios: median over rounds [middle half].\n\n"
    report(args.out, "Actors on the critic of strong-small", text + table(rows), ["wgflow", "torch"])


if __name__ == "__main__":
    main()
