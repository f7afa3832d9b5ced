"""Agents side by side: trains what is missing, writes a figure with bands and a table as text, Markdown and CSV."""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wgf.agents.training.checkpoint import read_json
from wgf.agents.training.envs import reward_threshold
from wgf.agents.training.schedule import Schedule
from wgf.runs import training
from wgf.runs.options import Contest, Place, seeds
from wgf.runs.reuse import missing
from wgf.runs.statistics import Values, band, bootstrap, episodes_to, improvement, iqm

# Zhang et al. 2018, Table 2; elsewhere the return at which Gymnasium calls a task solved.
THRESHOLDS = {"Swimmer": 100.0, "Walker2d": 3000.0, "Hopper": 2000.0, "Humanoid": 2000.0}


def compare(what: Contest, schedule: Schedule, place: Place, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes and prints the comparison; returns an exit code."""
    jobs = [plan(token, what, schedule, place) for token in what.agents]
    if not jobs:
        raise ValueError("agents is empty; name at least one, as in --agents sac dp-wgf-v")
    if twice := next((job.label for i, job in enumerate(jobs) if job.label in [j.label for j in jobs[:i]]), None):
        raise ValueError(f"agent {twice!r} is named twice; name it once, or give one of the two other settings")
    for todo in [missing(job) for job in jobs]:
        if todo.seeds and (code := training.report(todo, training.run(todo, say))):
            return code
    threshold = what.threshold
    if threshold is None:
        threshold = THRESHOLDS.get(what.env.rpartition("-")[0], reward_threshold(what.env))
    folder = jobs[0].folder(0).parents[1]
    runs = [[job.folder(seed) for seed in job.seeds] for job in jobs]
    curves = [read(job.label, folders) for job, folders in zip(jobs, runs, strict=True)]
    for line in mixed([folder for folders in runs for folder in folders]):
        print(f"wgf: {line}", file=sys.stderr)
    try:
        table = write(curves, what.env, threshold, folder)
    except OSError as error:
        raise ValueError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
    say(f"\n{table}\nfigure: {folder / 'compare.png'}\ntable:  {folder / 'compare.md'} .csv .txt\ncurves: tensorboard --logdir {place.out}")
    return 0


def plan(token: str, what: Contest, schedule: Schedule, place: Place) -> training.Job:
    """The job of "AGENT:field=value:...", in which preset=NAME may be one of the fields; its label is the token with commas."""
    name, *settings = token.split(":")
    chosen = [s.removeprefix("preset=") for s in settings if s.startswith("preset=")]
    preset = chosen[-1] if chosen else what.preset
    cfg = training.override(training.resolve(name, preset, what.env), [s for s in settings if not s.startswith("preset=")])
    return training.Job(token.replace(":", ","), name, preset, cfg, what.env, seeds(what.seeds), schedule, place)


class Curves(NamedTuple):
    """One agent's runs: evaluation steps (points,), evaluation returns (seeds, points), training returns of each seed in order."""

    label: str
    steps: Values
    evals: Values
    episodes: list[Values]
    rate: float  # environment steps a second, evaluations included, all seeds of a stack together


def read(label: str, folders: Sequence[Path]) -> Curves:
    """Reads metrics.csv and result.json of finished runs with equal schedules. Raises ValueError for a folder that is none."""
    points, episodes, rates = [], [], []
    for folder in folders:
        result = read_json(folder / "result.json")
        try:
            columns: dict[str, list[tuple[float, float]]] = {"eval/return": [], "charts/episodic_return": []}
            with open(folder / "metrics.csv", newline="") as f:
                for row in csv.DictReader(f):
                    columns.setdefault(row["tag"], []).append((float(row["step"]), float(row["value"])))
            points.append(np.array(columns["eval/return"]).reshape(-1, 2))
            episodes.append(np.array([value for _, value in columns["charts/episodic_return"]]))
            rates.append(result["step"] * result["stack"] / result["seconds"])
        except (OSError, KeyError, TypeError, ValueError, csv.Error):
            raise ValueError(f"{folder / 'metrics.csv'} cannot be read as a run's metrics; move the run away to train it again") from None
        if not len(points[-1]) or not np.array_equal(points[-1][:, 0], points[0][:, 0]):
            raise ValueError(f"{folder / 'metrics.csv'} lacks evaluations; move the run away to train it again")
    return Curves(label, points[0][:, 0], np.stack([p[:, 1] for p in points]), episodes, float(np.mean(rates)))


def mixed(folders: Sequence[Path]) -> list[str]:
    """A line for each package whose version, and for each device kind that, differs among runs: numbers may differ for that alone."""
    configs = [read_json(folder / "config.json") for folder in folders]
    rows: list[dict[str, Any]] = [{**c.get("versions", {}), "device": str(c.get("device")).partition(":")[0]} for c in configs]
    lines = []
    for name in ("torch", "mujoco", "gymnasium", "envpool", "wgflow", "device"):
        found = sorted({str(row.get(name)) for row in rows})
        if len(found) > 1:
            lines.append(f"these runs mix {name} {' and '.join(found)}: their returns may differ for that alone")
    return lines


def table(runs: Sequence[Curves], threshold: float | None) -> list[dict[str, str]]:
    """One row an agent. "P(better)" compares its final returns with those of the first agent."""
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
            row[f"episodes to {threshold:g}"] = _reached(c, threshold)
        row[f"P(better than {runs[0].label})"] = "-" if c is runs[0] else str(bootstrap(improvement, final, runs[0].evals[:, -1]))
        row["steps/s, all seeds"] = f"{c.rate:,.0f}"
        rows.append(row)
    return rows


def _reached(c: Curves, threshold: float) -> str:
    """Median over the seeds that reached it, and how many did."""
    needed = np.array([episodes_to(r, threshold) for r in c.episodes])
    reached = np.isfinite(needed)
    return f"{np.median(needed[reached]):.0f} ({reached.sum()}/{len(needed)} seeds)" if reached.any() else "not reached"


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
    for i, c in enumerate(runs):
        middle, low, high = band(c.evals)
        mark = {"color": f"C{i}", "marker": "o" if len(c.steps) == 1 else None}
        axes.plot(c.steps, middle, label=f"{c.label} ({len(c.evals)} seed{'s' * (len(c.evals) > 1)})", linewidth=2, **mark)
        axes.fill_between(c.steps, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        axes.plot(c.steps, c.evals.T, alpha=0.25, linewidth=0.7, **mark)
    axes.set(title=title, xlabel="environment steps of a seed", ylabel="evaluation return (IQM, 95 % bootstrap)")
    axes.legend(loc="best")
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
