"""Agents side by side: reads finished runs, writes a figure with bands and a table as text, Markdown and CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.training.checkpoint import read_json
from runs.statistics import Values, band, bootstrap, episodes_to, improvement, iqm

# Zhang et al. 2018, Table 2; elsewhere the return at which Gymnasium calls a task solved.
THRESHOLDS = {"Swimmer": 100.0, "Walker2d": 3000.0, "Hopper": 2000.0, "Humanoid": 2000.0}


class Curves(NamedTuple):
    """One agent's runs: evaluation steps (points,), evaluation returns (seeds, points), training returns of each seed in order."""

    label: str
    steps: Values
    evals: Values
    episodes: list[Values]
    rate: float  # environment steps a second, all seeds of a stack together


def read(label: str, folders: Sequence[Path]) -> Curves:
    """Reads metrics.csv of finished runs. Raises ValueError for a folder that is none."""
    evals, episodes, steps = [], [], np.zeros(0)
    for folder in folders:
        columns: dict[str, list[tuple[float, float]]] = {}
        try:
            with open(folder / "metrics.csv", newline="") as f:
                for row in csv.DictReader(f):
                    columns.setdefault(row["tag"], []).append((float(row["step"]), float(row["value"])))
        except (OSError, KeyError, ValueError):
            raise ValueError(f"{folder / 'metrics.csv'} cannot be read as a run's metrics; move the run away to train it again") from None
        points = np.array(columns["eval/return"])
        steps = points[:, 0]
        evals.append(points[:, 1])
        episodes.append(np.array([v for _, v in columns.get("charts/episodic_return", [])]))
    results = [read_json(folder / "result.json") for folder in folders]
    rate = float(np.mean([r["step"] * r["stack"] / r["seconds"] for r in results]))
    return Curves(label, steps, np.stack(evals), episodes, rate)


def table(runs: Sequence[Curves], threshold: float | None) -> list[dict[str, str]]:
    """One row an agent. The last column compares its final returns with those of the first agent."""
    rows = []
    for c in runs:
        final = c.evals[:, -1]
        row = {
            "agent": c.label,
            "seeds": str(len(final)),
            "steps": f"{c.steps[-1]:,.0f}",
            "final return, IQM [95 %]": str(bootstrap(lambda x: float(iqm(x)), final)),
            "best average return": f"{c.evals.mean(0).max():,.4g}",
        }
        if threshold is not None:
            needed = np.array([episodes_to(r, threshold) for r in c.episodes])
            reached = np.isfinite(needed)
            row[f"episodes to {threshold:g}"] = (
                f"{np.median(needed[reached]):.0f} ({reached.sum()}/{len(needed)} seeds)" if reached.any() else "not reached"
            )
        row[f"P(better than {runs[0].label})"] = "-" if c is runs[0] else str(bootstrap(improvement, final, runs[0].evals[:, -1]))
        row["steps/s, all seeds"] = f"{c.rate:,.0f}"
        rows.append(row)
    return rows


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """The table as Markdown."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[k] for k in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def text(rows: Sequence[dict[str, str]]) -> str:
    """The table in aligned columns."""
    head = list(rows[0])
    width = {k: max(len(k), *(len(row[k]) for row in rows)) for k in head}
    lines = [dict(zip(head, head, strict=True)), *rows]
    return "\n".join("  ".join(line[k].ljust(width[k]) for k in head).rstrip() for line in lines) + "\n"


def draw(runs: Sequence[Curves], title: str, path: Path) -> None:
    """Evaluation return against environment steps, IQM with its 95 % bootstrap band and each seed as a thin line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for c, colour in zip(runs, pyplot.get_cmap("tab10").colors, strict=False):
        middle, low, high = band(c.evals)
        axes.plot(c.steps, middle, color=colour, label=f"{c.label} ({len(c.evals)} seeds)", linewidth=2)
        axes.fill_between(c.steps, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(c.steps, c.evals.T, color=colour, alpha=0.25, linewidth=0.7)
    axes.set(title=title, xlabel="environment steps", ylabel="evaluation return (IQM, 95 % bootstrap)")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def write(runs: Sequence[Curves], title: str, threshold: float | None, folder: Path) -> str:
    """compare.png, compare.txt, compare.md and compare.csv in a folder; returns the text table."""
    rows = table(runs, threshold)
    draw(runs, title, folder / "compare.png")
    (folder / "compare.md").write_text(markdown(rows))
    (folder / "compare.txt").write_text(text(rows))
    with open(folder / "compare.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return text(rows)
