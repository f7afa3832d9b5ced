"""What a study of Bayesian regression shows: a table beside the published one, paired differences, and pictures."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wgf.agents.training.checkpoint import read_sealed, read_whole
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure
from wgf.runs.trainer.statistics import Interval, Values, resampled
from wgf.shown import shown

__all__ = [
    "FILES", "LEVELS", "PREDICTIONS", "PUBLISHED", "SCORES", "Scores", "by_flow", "coverage", "curve", "draw", "mean", "paired", "read",
    "signed", "table", "tuned", "tuned_table", "write",
]  # fmt: skip

# Zhang et al. 2018, Table 3: test RMSE and log-likelihood, "averaged predictions with standard deviations", as printed.
PUBLISHED = {
    "boston": {
        "Dropout": ("4.32 ± 0.29", "-2.90 ± 0.07"), "PBP": ("3.01 ± 0.18", "-2.57 ± 0.09"),
        "SVGD": ("2.96 ± 0.10", "-2.50 ± 0.03"), "WGF": ("2.46 ± 0.34", "-2.40 ± 0.10"),
    },
    "concrete": {
        "Dropout": ("7.19 ± 0.12", "-3.39 ± 0.02"), "PBP": ("5.67 ± 0.09", "-3.16 ± 0.02"),
        "SVGD": ("5.32 ± 0.10", "-3.08 ± 0.02"), "WGF": ("4.59 ± 0.29", "-2.95 ± 0.06"),
    },
    "energy": {
        "Dropout": ("2.65 ± 0.08", "-2.39 ± 0.03"), "PBP": ("1.80 ± 0.05", "-2.04 ± 0.02"),
        "SVGD": ("1.37 ± 0.05", "-1.77 ± 0.02"), "WGF": ("0.48 ± 0.04", "-0.73 ± 0.08"),
    },
    "kin8nm": {
        "Dropout": ("0.10 ± 0.00", "0.90 ± 0.01"), "PBP": ("0.10 ± 0.00", "0.90 ± 0.01"),
        "SVGD": ("0.09 ± 0.00", "0.98 ± 0.01"), "WGF": ("0.09 ± 0.00", "0.97 ± 0.02"),
    },
    "naval": {
        "Dropout": ("0.01 ± 0.00", "3.73 ± 0.12"), "PBP": ("0.01 ± 0.00", "3.73 ± 0.01"),
        "SVGD": ("0.00 ± 0.00", "4.09 ± 0.01"), "WGF": ("0.00 ± 0.00", "4.11 ± 0.02"),
    },
    "power": {
        "Dropout": ("4.33 ± 0.04", "-2.89 ± 0.02"), "PBP": ("4.12 ± 0.03", "-2.80 ± 0.05"),
        "SVGD": ("4.03 ± 0.03", "-2.82 ± 0.01"), "WGF": ("3.88 ± 0.06", "-2.78 ± 0.01"),
    },
    "protein": {
        "Dropout": ("4.84 ± 0.03", "-2.99 ± 0.01"), "PBP": ("4.73 ± 0.01", "-2.97 ± 0.00"),
        "SVGD": ("4.61 ± 0.01", "-2.95 ± 0.00"), "WGF": ("4.24 ± 0.02", "-2.88 ± 0.01"),
    },
    "wine": {
        "Dropout": ("0.65 ± 0.01", "-0.98 ± 0.01"), "PBP": ("0.64 ± 0.02", "-0.97 ± 0.01"),
        "SVGD": ("0.61 ± 0.01", "-0.93 ± 0.01"), "WGF": ("0.57 ± 0.03", "-0.87 ± 0.04"),
    },
    "yacht": {
        "Dropout": ("6.89 ± 0.67", "-3.43 ± 0.16"), "PBP": ("1.02 ± 0.05", "-1.63 ± 0.02"),
        "SVGD": ("0.86 ± 0.05", "-1.23 ± 0.04"), "WGF": ("0.56 ± 0.16", "-0.99 ± 0.15"),
    },
    "year": {
        "Dropout": ("9.03", "-3.62"), "PBP": ("8.88", "-3.60"),
        "SVGD": ("8.68", "-3.58"), "WGF": ("8.66", "-3.57"),
    },
}  # fmt: skip
CURVES = {"dev_log_likelihood": "log-likelihood of the dev part", "log_lambda": "log of the weights' precision, lambda"}
SCORES = ("rmse", "log_likelihood", "dev_rmse", "dev_log_likelihood", "rmse_unseen", "log_likelihood_unseen")  # of splits.csv
PREDICTIONS = ("split", "target", "mean", "std", "probability")  # the columns of predictions.csv
FILES = ("curves.csv", "splits.csv", "predictions.csv")  # of a fit; result.json, which is sealed, has their sha256
LEVELS = np.linspace(0.05, 0.95, 19)


class Scores(NamedTuple):
    """One method on one set: columns of splits.csv by name, (splits,), and the seconds of the whole fit."""

    label: str
    columns: dict[str, Values]
    seconds: float


def write(folder: Path, tasks: Sequence[tuple[str, str, Path]], *, tuned: bool = False) -> str:
    """table.md, .txt and .csv in the study's folder, tuned.md and so on if wanted, a picture per set; returns the text to print."""
    by_set: dict[str, list[tuple[str, Path]]] = {}
    for name, label, place in tasks:
        by_set.setdefault(name, []).append((label, place))
    rows, choices = [], []
    for name, methods in by_set.items():
        scores = [read(label, place) for label, place in methods]
        rows += table(name, scores)
        choices += tuned_table(name, scores) if tuned else []
        draw(name, methods, folder / f"{name}.png")
    wanted = {"table": rows, "tuned": choices} if tuned else {"table": rows}
    written = [_written(folder / found, of) for found, of in wanted.items()]
    pictures = ", ".join(str(folder / f"{name}.png") for name in (*by_set, "toy"))
    return f"{''.join(written)}pictures: {pictures}\ncurves: tensorboard --logdir {folder}"


def _written(path: Path, rows: Sequence[dict[str, str]]) -> str:
    return f"\n{tables.write(path, rows)}\n{path.name}: {path.with_suffix('.md')} .csv .txt\n"


def read(label: str, place: Path, *curves: str) -> Scores:
    """The scores that a fit wrote, and the last values of some of its curves.

    **Raises** ValueError, in one line, where its files are not as they were written.
    """
    seconds = read_sealed(place / "result.json").get("seconds")
    if not isinstance(seconds, float):
        raise ValueError(f"{place / 'result.json'} says that the fit took {shown(seconds)} seconds; move the fit away to make it again")
    columns, splits = _columns(place, "splits.csv", SCORES), read_sealed(place / "config.json").get("splits")
    if len(columns["rmse"]) != splits:
        raise ValueError(f"{place / 'splits.csv'} has {len(columns['rmse'])} rows, not {shown(splits)}; move the fit away to make it again")
    return Scores(label, columns | {measure: _last(place, measure) for measure in curves}, seconds)


def table(name: str, methods: Sequence[Scores]) -> list[dict[str, str]]:
    """Returns a row per method: means with standard errors, differences to the first with 95 % intervals; then the published rows."""
    first, rows = methods[0], []
    repeats = not np.array_equal(first.columns["rmse"], first.columns["rmse_unseen"])
    for each in methods:
        rows.append(_row(name, each, first, ""))
        if repeats:
            rows.append(_row(name, each, first, "_unseen"))
    for method, (rmse, density) in PUBLISHED.get(name, {}).items():
        rows.append({**dict.fromkeys(rows[0], "-"), "set": name, "method": f"{method}, published", "RMSE": rmse, "log-likelihood": density})
    return rows


def tuned_table(name: str, methods: Sequence[Scores]) -> list[dict[str, str]]:
    """Returns a row per flow: each split takes the flow's best setting by its own dev part; the last cell counts which are taken."""
    found = by_flow(methods)
    taken = {each.label: count for each, count in found.values()}
    return [{**row, "taken": taken.get(row["method"], "-")} for row in table(name, [each for each, _ in found.values()])]


def by_flow(methods: Sequence[Scores]) -> dict[str, tuple[Scores, str]]:
    """Returns each flow, tuned over its settings."""
    flows: dict[str, list[Scores]] = {}
    for each in methods:
        flows.setdefault(each.label.split(",")[0], []).append(each)
    return {flow: tuned(flow, settings) for flow, settings in flows.items()}


def tuned(flow: str, settings: Sequence[Scores]) -> tuple[Scores, str]:
    """A flow tuned split by split, and which setting was taken how often.

    No test row takes part: split s looks at the dev rows of split s alone. A choice by the mean over splits would not do, since the dev
    rows of one split are test rows of another.
    """
    best = np.argmax([each.columns["dev_log_likelihood"] for each in settings], 0)
    columns = {
        name: np.take_along_axis(np.stack([each.columns[name] for each in settings]), best[None], 0)[0] for name in settings[0].columns
    }
    counts = np.bincount(best, minlength=len(settings))
    taken = "; ".join(
        f"{n} {each.label.removeprefix(flow).removeprefix(',') or 'defaults'}" for n, each in zip(counts, settings, strict=True)
    )
    return Scores(f"{flow}, tuned over {len(settings)}", columns, sum(each.seconds for each in settings)), taken


def _row(name: str, each: Scores, first: Scores, part: str) -> dict[str, str]:
    rmse, density = (f"{measure}{part}" for measure in ("rmse", "log_likelihood"))
    same = each is first
    return {
        "set": name,
        "method": each.label + (", without repeated rows" if part else ""),
        "splits": str(len(each.columns["rmse"])),
        "RMSE": mean(each.columns[rmse]),
        "log-likelihood": mean(each.columns[density]),
        "dev log-likelihood": "-" if part else mean(each.columns["dev_log_likelihood"]),
        f"RMSE - {first.label}": "-" if same else paired(each.columns[rmse], first.columns[rmse]),
        f"log-likelihood - {first.label}": "-" if same else paired(each.columns[density], first.columns[density]),
        "seconds": f"{each.seconds:.0f}",
    }


def mean(values: Values) -> str:
    """Mean and standard error over splits; three digits after the first that is not zero."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.4g} ± {error:.2g}"


def paired(values: Values, base: Values) -> str:
    """Mean difference split by split, with Student's 95 % interval."""
    difference = values - base
    if len(difference) == 1:
        return f"{difference[0]:+.3g}"
    return signed(resampled(values, base, 0.0)[0])


def signed(found: Interval) -> str:
    """Writes a difference and its interval."""
    return f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


def coverage(probability: Values) -> Values:
    """The share of targets inside the central interval of each of LEVELS, from P(y' < y) of each."""
    inside = np.abs(probability[:, None] - 0.5) <= 0.5 * LEVELS
    return np.asarray(inside.mean(0))


def draw(name: str, methods: Sequence[tuple[str, Path]], path: Path) -> None:
    """Predictive mean and deviation against the target on the first split, calibration, and curves over the fit."""
    with figure(path, columns=4) as grid:
        left, middle, *curves = grid[0]
        for label, place in methods:
            found = _columns(place, "predictions.csv", PREDICTIONS)
            one = found["split"] == 0
            left.errorbar(
                found["target"][one], found["mean"][one], 1.645 * found["std"][one],
                linestyle="none", markersize=3, elinewidth=0.6, alpha=0.6,
            )  # fmt: skip
            middle.plot(LEVELS, coverage(found["probability"]), markersize=3, label=label)
            for axes, measure in zip(curves, CURVES, strict=True):
                axes.plot(*curve(place, measure))
        low, high = left.get_xlim()
        left.plot([low, high], [low, high], "k-", linewidth=0.7)
        middle.plot([0, 1], [0, 1], "k-", linewidth=0.7)
        left.set(title=f"{name}, first split", xlabel="target", ylabel="predictive mean, 1.645 deviations")
        middle.set(title="calibration, all splits", xlabel="level of the central interval", ylabel="share of the targets inside")
        for axes, words in zip(curves, CURVES.values(), strict=True):
            axes.set(title="mean over splits", xlabel="iterations", ylabel=words)


def curve(place: Path, measure: str) -> tuple[Values, Values]:
    """Steps, and the mean over splits of a measure at each."""
    values: dict[float, list[float]] = {}
    with _table(place, "curves.csv") as rows:
        for row in rows:
            if row["measure"] == measure:
                values.setdefault(float(row["step"]), []).append(float(row["value"]))
    return np.array(sorted(values)), np.array([np.mean(values[step]) for step in sorted(values)])


def _last(place: Path, measure: str) -> Values:
    """Returns a measure of each split at the last look, (splits,)."""
    with _table(place, "curves.csv") as rows:
        found = [row for row in rows if row["measure"] == measure]
        return np.array([float(row["value"]) for row in found if row["step"] == found[-1]["step"]])


def _columns(place: Path, name: str, needed: Sequence[str]) -> dict[str, Values]:
    """Returns the columns of a table of numbers, those that are needed."""
    with _table(place, name) as rows:
        return {column: np.array([float(row[column]) for row in rows]) for column in needed}


@contextmanager
def _table(place: Path, name: str) -> Iterator[list[dict[str, str]]]:
    """Gives the rows of a file that a fit wrote, if it holds what the fit's result.json says; there is one at least.

    **Raises** ValueError, in one line, for any other file, and where what is done with the rows shows that they are no table of numbers.
    """
    files = read_sealed(place / "result.json").get("files")
    data = read_whole(place / name, files.get(name) if isinstance(files, dict) else None, "result.json")
    try:
        rows = list(csv.DictReader(data.decode().splitlines()))
        if not rows:
            raise ValueError("no rows")
        yield rows
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ValueError(f"{place / name} holds no table of numbers; move the fit away to make it again") from None
