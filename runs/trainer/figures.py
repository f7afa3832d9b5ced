"""One style for all figures, readable without colour: names of agents, a legend below the curves, thousands as 20k, PNG beside PDF."""

import math
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wgf.agents.training.checkpoint import named
from wgf.runs.trainer.statistics import COVERAGE, Values, band

__all__ = ["NAMES", "caption", "display", "each", "figure", "returns", "thousands"]

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
# Of two curves neither colour, nor line and marker together, are the same; the colours are those of Okabe and Ito, which the colour-blind
# can tell apart. A curve that is given some of the three and not the others takes these from the cycle, and moves it on.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "0.4", "#8C564B", "0.0")
LINES = (*("-", "--", "-.", ":") * 2, "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "p")
STYLE = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False, "lines.markersize": 5}
FEW = 10  # seeds that are drawn one by one
CROWDED = 12  # points of a curve from which on not each has a marker
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


def caption(*seeds: int) -> str:
    """Says what stands below a figure of ``returns``: how many seeds the curves have, which mean, which interval."""
    least, most = min(seeds), max(seeds)
    if most == 1:
        return "1 seed"
    count = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    return f"{count}{' (thin)' if most <= FEW else ''}: interquartile mean and 95 % bootstrap interval\n{COVERAGE}"


@contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, note: str = "", panel: tuple[float, float] = PANEL, **share: Any) -> Iterator[Any]:
    """Gives axes (rows, columns) to draw on; at the end puts a note and one legend below them, and writes path.png and path.pdf."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, rcsetup

    looks = rcsetup.cycler(color=COLORS, linestyle=LINES, marker=MARKERS)
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": looks, "figure.constrained_layout.use": True}):
        size = (panel[0] * columns, panel[1] * rows)
        drawn, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **share)
        try:
            yield axes
            for ax in axes.flat:
                _thin_out(ax)
            _below(drawn, axes, note)
            with named(path):
                drawn.savefig(path.with_suffix(".png"), dpi=150)
                drawn.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
        finally:
            pyplot.close(drawn)


def returns(axes: Any, steps: Values, runs: Values, label: str) -> None:
    """Draws the interquartile mean of runs (seeds, points) with its bootstrap band, and each seed as a thin line where there are few."""
    middle, low, high = band(runs)
    (line,) = axes.plot(steps, middle, label=label, linewidth=2)
    axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if 1 < len(runs) <= FEW:
        each(axes, line, steps, runs)
    axes.xaxis.set_major_formatter(lambda value, place: thousands(value))


def each(axes: Any, line: Any, x: Any, runs: Any) -> None:
    """Draws runs (seeds, points) as thin lines in the look of their mean; a run of one point is a dot."""
    marker = line.get_marker() if len(x) == 1 else ""
    axes.plot(x, runs.T, color=line.get_color(), linestyle=line.get_linestyle(), marker=marker, markersize=3, alpha=0.4, linewidth=0.6)


def _thin_out(ax: Any) -> None:
    """Leaves some markers of each crowded curve, at even distances, and not at the same places as on other curves."""
    crowded = [line for line in ax.lines if line.get_linestyle() != "None" and len(line.get_xdata()) > CROWDED]
    for k, line in enumerate(crowded):
        line.set_markevery((0.02 * (k % len(MARKERS)), 0.02 * len(MARKERS)))


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
