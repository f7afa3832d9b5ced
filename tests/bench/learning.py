"""What learning looked like, from the finished runs of `wgf compare`: tables, one figure, and what the W2 term did.

for env in Swimmer-v5 Hopper-v5 InvertedDoublePendulum-v5; do
  wgf compare --env $env --agents sac dp-wgf-v dp-wgf-v:w2_scale=0 --seeds 5 --steps 100000 --threads 1 --name learning
done
python tests/bench/learning.py --runs runs/learning --agents sac dp-wgf-v dp-wgf-v,w2_scale=0 --out runs/results/learning
python tests/bench/learning.py --out runs/results/learning        # the figure again, from the stored learning.csv
"""

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from wgf.runs.trainer.compare import THRESHOLDS, Curves, read
from wgf.runs.trainer.compare import table as compared
from wgf.runs.trainer.figures import caption, display, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, Interval, bootstrap, interval
from wgf.runs.trainer.tables import markdown, write_rows

TAGS = {
    "speed of the KL term": "flow/kl_speed",
    "speed of the W2 term": "flow/w2_speed",
    "distance moved in an update": "flow/w2",
    "entropy": "policy/entropy",
    "deviation": "policy/std",
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
    return interval(curves.evals.mean(1))


def short(agents: list[str]) -> tuple[list[str], str]:
    """The agents without the settings that all of them have, by name alone where names differ, and these settings."""
    parts = [re.split(r",(?=\w+=)", agent) for agent in agents]
    common = [setting for setting in parts[0][1:] if all(setting in others for others in parts)]
    names = [name for name, *_ in parts]
    own = [",".join(setting for setting in settings if setting not in common) for settings in parts]
    return (names if len(set(names)) == len(names) else own), ", ".join(common)


def draw(file: Path) -> None:
    """The curves of NAME.csv, a panel per environment, as NAME.png and NAME.pdf."""
    with file.open(newline="") as f:
        rows = list(csv.DictReader(f))
    envs = list(dict.fromkeys(row["environment"] for row in rows))
    with figure(file, columns=len(envs), note=caption(len({row["seed"] for row in rows}))) as axes:
        for env, axis in zip(envs, axes[0], strict=True):
            curves: dict[str, dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
            for row in rows:
                if row["environment"] == env:
                    curves[row["agent"]][row["seed"]][float(row["step"])] = float(row["return"])
            for agent, seeds in curves.items():
                steps = np.array(list(next(iter(seeds.values()))))
                returns(axis, steps, np.array([list(seed.values()) for seed in seeds.values()]), display(agent))
            axis.set(title=env, xlabel="environment steps per seed", ylabel="evaluation return")


def inside(labels: list[str], folders: list[list[Path]]) -> str:
    """The table of TAGS, a row per agent."""
    rows = []
    for label, runs in zip(labels, folders, strict=True):
        found = [late(folder) for folder in runs]
        cells = {name: str(bootstrap(lambda x: float(x.mean()), np.array([f[name] for f in found]))) for name in TAGS if name in found[0]}
        rows.append({"agent": label, **cells})
    names = ["agent", *(name for name in TAGS if any(name in row for row in rows))]
    return markdown([{name: row.get(name, "-") for name in names} for row in rows])


def main() -> None:
    """Writes NAME.csv with every evaluation, NAME.md, NAME.png and NAME.pdf."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the finished runs; without it the figure alone is drawn again from NAME.csv")
    parser.add_argument("--agents", nargs="+", default=[], help="names of folders, the first the baseline")
    parser.add_argument("--envs", nargs="+", default=["Swimmer-v5", "Hopper-v5", "InvertedDoublePendulum-v5"])
    parser.add_argument("--name", default="learning")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    file = args.out / f"{args.name}.csv"
    if args.runs is None:
        draw(file)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    labels, common = short(args.agents)
    parts, lines = [], []
    for env in args.envs:
        folders = [sorted((args.runs / env / agent).glob("seed-?")) for agent in args.agents]
        runs = [read(label, found) for label, found in zip(labels, folders, strict=True)]
        rows = compared(runs, THRESHOLD.get(env.rpartition("-")[0]))
        for row, curves in zip(rows, runs, strict=True):
            row["return over the whole training, IQM [95 %]"] = str(over_time(curves))
            steps = curves.steps.astype(int).tolist()
            lines += [
                (env, curves.label, k, s, f"{r:.2f}") for k, c in enumerate(curves.evals) for s, r in zip(steps, c.tolist(), strict=True)
            ]
        parts.append(f"## {env}\n\n{markdown(rows)}\n{inside(labels, folders)}\n")
    text = f"All agents: {common}. " if common else ""
    text += f"Second tables: means over the second half of the training, over seeds [95 % bootstrap]. {COVERAGE}\n\n"
    (args.out / f"{args.name}.md").write_text("# Learning\n\n" + text + "\n".join(parts))
    write_rows(file, ["environment", "agent", "seed", "step", "return"], lines)
    draw(file)
    print((args.out / f"{args.name}.md").read_text())


if __name__ == "__main__":
    main()
