"""One style for all figures: the agents' own names, a legend outside the curves, thousands as 20k, PNG and PDF beside each other."""

import math
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wgf.agents.training.checkpoint import named
from wgf.runs.trainer.statistics import COVERAGE, Values, band

__all__ = ["NAMES", "caption", "display", "figure", "returns", "thousands"]

NAMES = {
    "ddpg": "DDPG",
    "dp-wgf": "DP-WGF",
    "dp-wgf-v": "DP-WGF-V",
    "es": "ES",
    "ip-wgf": "IP-WGF",
    "pg": "policy gradient",
    "ppo": "PPO",
    "sac": "SAC",
    "soft-q": "soft Q-learning",
    "svpg": "SVPG",
    "trpo": "TRPO",
    "wgf-sac": "WGF-SAC",
    "wnpg": "WNPG",
    "wpo": "WPO",
}
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True}
PANEL = (4.8, 3.6)  # inches of a panel
LETTER, SMALL, ROW = 0.085, 0.072, 0.21  # inches, about: a letter of the legend, one of the note, a row of the legend


def display(label: str) -> str:
    """Returns what a figure shows for an agent's label: "dp-wgf-v,w2_scale=0" becomes "DP-WGF-V, w2_scale = 0"."""
    name, *settings = re.split(r",(?=\w+=)", label)
    return ", ".join([NAMES.get(name, name), *(setting.replace("=", " = ", 1) for setting in settings)])


def thousands(value: float) -> str:
    """Writes a number of steps for an axis: 20k for 20,000, 1.5M for 1,500,000."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def caption(seeds: int) -> str:
    """Says what stands below a figure of ``returns``: how many seeds, which mean, which interval."""
    return f"{seeds} seeds: interquartile mean and 95 % bootstrap interval\n{COVERAGE}" if seeds > 1 else "1 seed"


@contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, note: str = "", panel: tuple[float, float] = PANEL, **share: Any) -> Iterator[Any]:
    """Gives axes (rows, columns) to draw on; at the end puts a note and one legend below them, and writes path.png and path.pdf."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        size = (panel[0] * columns, panel[1] * rows)
        drawn, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **share)
        try:
            yield axes
            _below(drawn, axes, note)
            with named(path):
                drawn.savefig(path.with_suffix(".png"), dpi=150)
                drawn.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
        finally:
            pyplot.close(drawn)


def returns(axes: Any, steps: Values, runs: Values, label: str, *, color: str | None = None, each: bool = False) -> None:
    """Draws the interquartile mean of runs (seeds, points) with its bootstrap band; with ``each``, every seed as a thin line."""
    middle, low, high = band(runs)
    marker = "o" if len(steps) == 1 else None
    (line,) = axes.plot(steps, middle, label=label, color=color, linewidth=2, marker=marker)
    axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if each:
        axes.plot(steps, runs.T, color=line.get_color(), alpha=0.25, linewidth=0.7, marker=marker)
    axes.xaxis.set_major_formatter(lambda value, place: thousands(value))


def _below(drawn: Any, axes: Any, note: str) -> None:
    """Puts the note and every label once below the axes, in as many columns as fit; the figure grows by their height."""
    found: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found and not note:
        return
    width, height = drawn.get_size_inches()
    longest = max((len(label) for label in found), default=0) + 6  # letters; a line of the legend takes six before its label
    columns = max(1, min(len(found), int(width / (LETTER * longest))))
    text = "\n".join(line for part in note.splitlines() for line in textwrap.wrap(part, int(width / SMALL)))
    legend = drawn.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False, title=text)
    legend.get_title().set(fontsize="small", color="0.35", multialignment="center")
    drawn.set_size_inches(width, height + ROW * math.ceil(len(found) / columns) + 0.8 * ROW * len(text.splitlines()))
