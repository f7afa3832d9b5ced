"""What learning looked like, from the finished runs of `wgf compare`: tables, one figure, and what the W2 term did.

for env in Swimmer-v5 Hopper-v5 InvertedDoublePendulum-v5; do
  wgf compare --env $env --agents sac dp-wgf-v dp-wgf-v:w2_scale=0 --seeds 5 --steps 100000 --threads 1 --name learning
done
python tests/bench/learning.py --runs runs/learning --agents sac dp-wgf-v dp-wgf-v,w2_scale=0 --out runs/results/learning
"""

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from timing import table

from wgf.runs.trainer.compare import THRESHOLDS, Curves, markdown, read
from wgf.runs.trainer.compare import table as compared
from wgf.runs.trainer.statistics import Interval, band, bootstrap, iqm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TAGS = {
    "speed of the KL term": "flow/kl_speed",
    "speed of the W2 term": "flow/w2_speed",
    "distance moved in an update": "flow/w2",
    "entropy": "policy/entropy",
}
THRESHOLD = THRESHOLDS | {"Swimmer": 35.0, "InvertedDoublePendulum": 9100.0}  # Swimmer-v5 stays far below the 100 of rllab's


def late(folder: Path) -> dict[str, float]:
    """Means of TAGS over the second half of a run; the distance is the root of the mean square."""
    seen = defaultdict(list)
    with open(folder / "metrics.csv", newline="") as f:
        for row in csv.DictReader(f):
            seen[row["tag"]].append(float(row["value"]))
    means = {name: float(np.mean(seen[tag][len(seen[tag]) // 2 :])) for name, tag in TAGS.items() if tag in seen}
    return {name: value**0.5 if "distance" in name else value for name, value in means.items()}


def over_time(curves: Curves) -> Interval:
    """The mean evaluation return over the whole training: IQM over seeds."""
    return bootstrap(lambda x: float(iqm(x)), curves.evals.mean(1))


def short(agents: list[str]) -> tuple[list[str], str]:
    """The agents without the settings that all of them have, by name alone where names differ, and these settings."""
    parts = [re.split(r",(?=\w+=)", agent) for agent in agents]
    common = [setting for setting in parts[0][1:] if all(setting in others for others in parts)]
    names = [name for name, *_ in parts]
    own = [",".join(setting for setting in settings if setting not in common) for settings in parts]
    return (names if len(set(names)) == len(names) else own), ", ".join(common)


def main() -> None:
    """Writes NAME.csv with every evaluation, NAME.md and NAME.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--agents", nargs="+", required=True, help="names of folders, the first the baseline")
    parser.add_argument("--envs", nargs="+", default=["Swimmer-v5", "Hopper-v5", "InvertedDoublePendulum-v5"])
    parser.add_argument("--name", default="learning")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(args.envs), figsize=(5 * len(args.envs), 4), squeeze=False, layout="constrained")
    labels, common = short(args.agents)
    parts, lines = [], [("environment", "agent", "seed", "step", "return")]
    for env, axis in zip(args.envs, axes[0], strict=True):
        folders = {agent: sorted((args.runs / env / agent).glob("seed-?")) for agent in args.agents}
        runs = [read(label, folders[agent]) for label, agent in zip(labels, args.agents, strict=True)]
        rows = compared(runs, THRESHOLD.get(env.rpartition("-")[0]))
        for row, curves in zip(rows, runs, strict=True):
            row["return over the whole training, IQM [95 %]"] = str(over_time(curves))
            middle, low, high = band(curves.evals)
            axis.plot(curves.steps, middle, label=curves.label)
            axis.fill_between(curves.steps, low, high, alpha=0.2, linewidth=0)
            steps = curves.steps.astype(int).tolist()
            lines += [
                (env, curves.label, k, s, f"{r:.2f}") for k, c in enumerate(curves.evals) for s, r in zip(steps, c.tolist(), strict=True)
            ]
        axis.set(title=env, xlabel="environment steps of a seed", ylabel="evaluation return (IQM, 95 % bootstrap)")
        axis.legend(loc="best")
        axis.grid(alpha=0.3)
        inner = []
        for label, agent in zip(labels, args.agents, strict=True):
            found = [late(folder) for folder in folders[agent]]
            cells = {
                name: str(bootstrap(lambda x: float(x.mean()), np.array([f[name] for f in found]))) for name in TAGS if name in found[0]
            }
            inner.append({"agent": label, **cells})
        names = ["agent", *(name for name in TAGS if any(name in cells for cells in inner))]
        parts.append(f"## {env}\n\n{markdown(rows)}\n{table([{name: cells.get(name, '-') for name in names} for cells in inner])}\n")
    text = f"All agents: {common}. " if common else ""
    text += "Second tables: means over the second half of the training, over seeds [95 % bootstrap].\n\n"
    (args.out / f"{args.name}.md").write_text("# Learning\n\n" + text + "\n".join(parts))
    with open(args.out / f"{args.name}.csv", "w", newline="") as f:
        csv.writer(f).writerows(lines)
    figure.savefig(args.out / f"{args.name}.png", dpi=120)
    print((args.out / f"{args.name}.md").read_text())


if __name__ == "__main__":
    main()
