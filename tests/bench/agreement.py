"""Returns of an agent beside Stable-Baselines3's, from finished runs of both: a table and a figure.

wgf train sac --preset modern --env Hopper-v5 --seeds 5 --steps 30000 --eval-every 5000 --eval-episodes 10 --name agreement
python tests/bench/sb3.py --agent sac --env Hopper-v5 --seeds 5 --steps 30000 --out runs/agreement/sb3-Hopper-v5.csv
python tests/bench/agreement.py --runs runs/agreement --envs Hopper-v5 HalfCheetah-v5 --out runs/results/agreement
python tests/bench/agreement.py --envs Hopper-v5 HalfCheetah-v5 --out runs/results/agreement      # again, from the stored curves
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from timing import table

from wgf.runs.trainer.compare import read
from wgf.runs.trainer.figures import caption, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, bootstrap
from wgf.runs.trainer.tables import write_rows

Curves = tuple[np.ndarray, np.ndarray]  # steps (points,), returns (seeds, points)


def stored(file: Path) -> Curves:
    """The evaluations of a file that sb3.py or this program wrote."""
    rows = np.loadtxt(file, delimiter=",", skiprows=1)
    seeds = np.unique(rows[:, 0])
    return rows[rows[:, 0] == seeds[0], 1], np.stack([rows[rows[:, 0] == k, 2] for k in seeds])


def ours(args: argparse.Namespace, env: str) -> None:
    """Writes every evaluation of both, as sb3.py does, beside the table."""
    shutil.copy(args.runs / f"sb3-{env}.csv", args.out)
    runs = read(args.agent, sorted((args.runs / env / args.agent).glob("seed-*")))
    lines = [(k, int(step), f"{r:.2f}") for k, curve in enumerate(runs.evals) for step, r in zip(runs.steps, curve, strict=True)]
    write_rows(args.out / f"wgf-{env}.csv", ["seed", "step", "return"], lines)


def main() -> None:
    """Writes agreement.md, agreement.png, agreement.pdf and the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the finished runs; without it all is made again from the stored curves")
    parser.add_argument("--agent", default="sac")
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.runs is not None:
        for env in args.envs:
            ours(args, env)
    seeds = [len(evals) for env in args.envs for _, evals in both(args.out, env).values()]
    with figure(args.out / "agreement", columns=len(args.envs), note=caption(*seeds)) as axes:
        rows = [row for env, axis in zip(args.envs, axes[0], strict=True) for row in beside(args, env, axis)]
    (args.out / "agreement.md").write_text(f"{table(rows)}\n\n{COVERAGE}\n")
    print(table(rows))


def both(out: Path, env: str) -> dict[str, Curves]:
    """The stored curves of an environment."""
    return {"wgf": stored(out / f"wgf-{env}.csv"), "Stable-Baselines3": stored(out / f"sb3-{env}.csv")}


def beside(args: argparse.Namespace, env: str, axis: Any) -> list[dict[str, str]]:
    """Draws both curves of an environment; returns the rows of the table."""
    rows = []
    for name, (steps, evals) in both(args.out, env).items():
        returns(axis, steps, evals, name)
        final = evals[:, -1]
        mean = bootstrap(lambda x: float(x.mean()), final)
        each = ", ".join(f"{r:,.0f}" for r in sorted(final))
        about = {"environment": env, f"{args.agent} of": name, "seeds": str(len(final)), "steps": f"{steps[-1]:,.0f}"}
        rows.append({**about, "mean return at the end [95 %]": str(mean), "each seed": each})
    axis.set(title=env, xlabel="environment steps per seed", ylabel="evaluation return")
    return rows


if __name__ == "__main__":
    main()
