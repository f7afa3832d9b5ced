"""Flows beside what one may take instead of them: Stein mixtures, Blob, Langevin, ensembles, dropout, and an exact Gaussian process.

    python -m wgf.runs.studies bnn_alternatives --data uci --out runs

All see the same splits. Every flow has the same step sizes, and each split takes the one with the best log-likelihood of its own dev
part; a Gaussian process takes no dev part. Differences are those to the first flow, with the intervals of Nadeau & Bengio's corrected
test, and its p-values by Holm's method over the whole table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wgf.bnn import data
from wgf.runs.command.options import Study, check_range, check_some
from wgf.runs.studies import bnn, bnn_gp, bnn_report
from wgf.runs.studies.bnn_report import Scores
from wgf.runs.trainer import tables
from wgf.runs.trainer.statistics import holm, resampled

__all__ = ["Options", "main", "table"]

FLOWS = ("svgd", "wgf:w2=eq9_mean:w2_scale=10", "smi:particles=5", "blob", "langevin", "ensemble", "dropout")  # smi draws 10 of each
LARGEST = 2000  # rows of a set that a Gaussian process is fitted to: a step of its fit costs their number cubed
SHARE = 1.0 / 9.0  # of test rows to train rows in a standard split
MEASURES = {"RMSE": "rmse", "log-likelihood": "log_likelihood"}


@dataclass(frozen=True)
class Options:
    """Fit flows and a Gaussian process to the standard splits of small sets, and compare them."""

    data: Path | None = None
    """Folder with a SET/data.txt for each set; by default the folder that the environment variable WGF_DATA names."""
    sets: tuple[str, ...] = ("yacht", "boston", "energy")
    """Which sets; those of more than 2,000 rows have no Gaussian process."""
    flows: tuple[str, ...] = FLOWS
    """Which flows, as --methods of wgf bnn has them, without a step size; the first is the baseline."""
    rates: tuple[float, ...] = (0.008, 0.016)
    """Step sizes of every flow."""
    splits: int = 0
    """How many of a set's standard splits are used, two at least, from the first on; 0 uses all."""
    iterations: int = 2000
    """Minibatch steps per flow and step size."""
    out: str = "runs"
    """Folder for the results; a fit is written to OUT/alternatives/SET/METHOD."""
    compile: bool = False
    """Run the steps as machine code, as wgf bnn does."""

    def __post_init__(self) -> None:
        check_some(self, "sets", "flows", "rates")
        check_range(self, splits=(0, None), iterations=(1, None))
        if self.splits == 1:
            raise ValueError("splits is 1; a difference takes at least 2, and 0 uses all")


def main(options: Options, say: Callable[[str], None]) -> int:
    """Fits what is missing; writes alternatives.md, .txt, .csv, and alternatives-splits.csv. Returns the exit code of ``wgf bnn``."""
    study = Study(
        options.data, options.sets, tuple(f"{flow}:lr={rate}" for rate in options.rates for flow in options.flows), True,
        options.splits, options.iterations, out=options.out, name="alternatives", compile=options.compile,
    )  # fmt: skip
    if code := bnn.main(study, say):
        return code
    place = Path(study.out) / study.name
    found = {name: _scores(study, name, place / name / "gp", say) for name in study.sets}
    say(tables.write(place / "alternatives", table(found)))
    each = [
        (name, scores.label, s, *(scores.columns[column][s] for column in MEASURES.values()))
        for name, methods in found.items()
        for scores in methods
        for s in range(len(scores.columns["rmse"]))
    ]
    tables.write_rows(place / "alternatives-splits.csv", ["set", "method", "split", *MEASURES.values()], each)
    return 0


def _scores(study: Study, name: str, place: Path, say: Callable[[str], None]) -> list[Scores]:
    """Each flow, tuned, and the Gaussian process, which is fitted in ``place``."""
    tasks = [bnn.plan(study, name, method) for method in study.methods]
    found = [scores for scores, _ in bnn_report.by_flow([bnn_report.read(t.label, t.folder, "spread") for t in tasks]).values()]
    if data.SETS[name].rows <= LARGEST:
        bnn_gp.fit(place, name, data.load(bnn.sets_folder(study.data), name), tasks[0].splits, say)
        found.append(bnn_report.read("gp", place))
    return found


def table(found: Mapping[str, Sequence[Scores]]) -> list[dict[str, str]]:
    """Returns a row per set and method. ``spread`` is that of the last step, ``Fit.spread``: 1 under the prior."""
    gaps = {
        (name, each.label, word): resampled(each.columns[column], methods[0].columns[column], SHARE)
        for name, methods in found.items()
        for each in methods[1:]
        for word, column in MEASURES.items()
    }
    base = next(iter(found.values()))[0].label.split(",")[0]
    together = dict(zip(gaps, holm([p for _, p in gaps.values()]), strict=True))
    rows = []
    for name, methods in found.items():
        for each in methods:
            row = {"set": name, "method": each.label, "splits": str(len(each.columns["rmse"]))}
            row |= {word: bnn_report.mean(each.columns[column]) for word, column in MEASURES.items()}
            for word in MEASURES:
                key = name, each.label, word
                row[f"{word} - {base}"] = bnn_report.signed(gaps[key][0]) if key in gaps else "-"
                row[f"p of {word}, Holm"] = f"{together[key]:.2g}" if key in gaps else "-"
            row["spread"] = f"{each.columns['spread'].mean():.2g}" if "spread" in each.columns else "-"
            rows.append({**row, "seconds": f"{each.seconds:.0f}"})
    return rows
