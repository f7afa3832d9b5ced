"""Returns of an agent beside Stable-Baselines3's, from finished runs of both: a table and a figure.

wgf train sac --preset modern --env Hopper-v5 --seeds 5 --steps 30000 --eval-every 5000 --eval-episodes 10 --name agreement
python tests/bench/sb3.py --agent sac --env Hopper-v5 --seeds 5 --steps 30000 --out runs/agreement/sb3-Hopper-v5.csv
python tests/bench/agreement.py --runs runs/agreement --envs Hopper-v5 HalfCheetah-v5 --out runs/results/agreement
"""

import argparse
import csv
import shutil
from pathlib import Path

import matplotlib
import numpy as np
from timing import table

from wgf.runs.trainer.compare import read
from wgf.runs.trainer.statistics import band, bootstrap

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Curves = tuple[np.ndarray, np.ndarray]  # steps (points,), returns (seeds, points)


def theirs(file: Path) -> Curves:
    """The evaluations that sb3.py wrote."""
    rows = np.loadtxt(file, delimiter=",", skiprows=1)
    seeds = np.unique(rows[:, 0])
    return rows[rows[:, 0] == seeds[0], 1], np.stack([rows[rows[:, 0] == k, 2] for k in seeds])


def main() -> None:
    """Writes agreement.md, agreement.png and the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--agent", default="sac")
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(args.envs), figsize=(5 * len(args.envs), 3.5), squeeze=False, layout="constrained")
    rows = []
    for env, axis in zip(args.envs, axes[0], strict=True):
        file = args.runs / f"sb3-{env}.csv"
        shutil.copy(file, args.out)
        runs = read(args.agent, sorted((args.runs / env / args.agent).glob("seed-*")))
        both = {"wgf": (runs.steps, runs.evals), "Stable-Baselines3": theirs(file)}
        steps, returns = both["wgf"]
        lines = [(k, int(step), f"{r:.2f}") for k, curve in enumerate(returns) for step, r in zip(steps, curve, strict=True)]
        with open(args.out / f"wgf-{env}.csv", "w", newline="") as f:
            csv.writer(f).writerows([("seed", "step", "return"), *lines])
        for name, (steps, returns) in both.items():
            middle, low, high = band(returns)
            axis.plot(steps, middle, label=name)
            axis.fill_between(steps, low, high, alpha=0.2)
            final = returns[:, -1]
            mean = bootstrap(lambda x: float(x.mean()), final)
            each = ", ".join(f"{r:,.0f}" for r in sorted(final))
            about = {"environment": env, f"{args.agent} of": name, "seeds": str(len(final)), "steps": f"{steps[-1]:,.0f}"}
            rows.append({**about, "mean return at the end [95 %]": str(mean), "each seed": each})
        axis.set(title=env, xlabel="environment steps", ylabel="return, IQM and 95 % band")
        axis.legend(frameon=False)
    figure.savefig(args.out / "agreement.png", dpi=110)
    (args.out / "agreement.md").write_text(table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
