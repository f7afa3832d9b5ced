"""What a natural gradient costs beside PPO's epochs: WNPG by its metric, 320 minibatch steps of 64.

    python tests/bench/natural.py --out runs/results/speed/natural.md

Every ratio is of cases in turns in one run, as machine code on one thread. Noise is drawn within the time.
"""

import argparse
from pathlib import Path

from timing import report, table
from updates import on_segments, row, timed


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cases = {
        "ppo": on_segments("ppo", "modern", compile=True),
        "none": on_segments("wnpg", "paper", compile=True, metric="none"),
        "gaussian": on_segments("wnpg", "paper", compile=True, metric="gaussian"),
        "kernel": on_segments("wnpg", "paper", compile=True),
        "kernel, renewed every fourth step": on_segments("wnpg", "paper", compile=True, renew=4),
        "penalty": on_segments("wnpg", "bgpg", compile=True),
        "kernel and penalty": on_segments("wnpg", "bg-wnpg", compile=True),
        "kernel and penalty, not compiled": on_segments("wnpg", "bg-wnpg", compile=False),
    }
    times = timed(cases, 1, args.rounds)
    text = "Medians of the rounds; ratios: median over rounds [middle half].\n\n"
    rows = [row(times, name, "ppo") for name in cases]
    report(args.out, "WNPG and PPO, 320 minibatch steps of 64", text + table(rows), ["wgflow", "torch"])


if __name__ == "__main__":
    main()
