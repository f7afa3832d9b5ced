"""Searches a space of settings by optuna: a study for each agent of the file in each environment.

What a study knows is the list of settings that it has begun, in a sealed file, and what their run folders say: it goes on from these.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from wgf.agents.training.checkpoint import doubted, read_sealed, write_sealed
from wgf.agents.training.folder import difference
from wgf.agents.training.ranges import shown as written
from wgf.agents.training.schedule import Schedule
from wgf.limits import contents
from wgf.runs.command.options import Place, Sweep
from wgf.runs.command.tokens import label
from wgf.runs.sweeps.engines import missing
from wgf.runs.sweeps.grid import Entry, Range, Setting, Values, setting, with_values
from wgf.runs.sweeps.pool import Ended
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import read
from wgf.runs.trainer.reuse import finished
from wgf.runs.trainer.training import words

__all__ = ["Search", "Study", "evaluations"]

DIGITS = 4  # of a number that a search draws
LUCK = (
    "A chosen setting is the best of many on these seeds, and partly by luck: its returns here are too high. Measure it on other seeds, "
    "with the command in chosen.txt."
)


class Study:
    """The search of one agent in one environment. Raises ValueError where its file is of another search, or damaged."""

    def __init__(self, entry: Entry, env: str, what: Sweep, schedule: Schedule, place: Place) -> None:
        try:
            import optuna
        except ImportError:
            raise missing("search") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self.entry, self.env = optuna, entry, env
        self._what, self._schedule, self._place = what, schedule, place
        self._laws = {field: _law(optuna, values) for field, values in entry.space.items()}
        self._path = setting(entry.token, what, env, schedule, place).job.folder(0).parents[1] / f"{label(entry.token)}.search.json"
        self.begun: list[dict[str, Any]] = self._read()
        self.settings = [self._setting(trial["values"]) for trial in self.begun]
        self.failed: set[int] = set()
        self._values: dict[int, float] = {}
        self._looks: dict[int, dict[int, float]] = {}

    def more(self) -> Setting | None:
        """Begins a setting: the next that optuna proposes, which follows from what it knows and from how many there were."""
        if len(self.begun) == self._what.search:
            return None
        sampler = self._optuna.samplers.TPESampler(seed=len(self.begun), constant_liar=True)
        params = self._told(sampler).ask(self._laws).params
        values = {field: _text(law, params[field]) for field, law in self.entry.space.items()}
        self.begun.append({"values": values, "pruned": None})
        self.settings.append(self._setting(values))
        self._write()
        return self.settings[-1]

    def hopeless(self) -> list[Setting]:
        """Returns settings that train and whose evaluation return is below the median of the others at the same step, and notes them."""
        found = []
        for k in range(len(self.begun)):
            if self.state(k) != "RUNNING" or not (looks := self._evaluations(k)) or looks == self._looks.get(k):
                continue
            self._looks[k] = looks
            study = self._told(None)
            if self._optuna.pruners.MedianPruner().prune(study, study.trials[k]):
                self.begun[k]["pruned"] = max(looks)
                self._write()
                found.append(self.settings[k])
        return found

    def state(self, k: int) -> str:
        """Returns optuna's name for how setting k stands."""
        job = self.settings[k].job
        if k in self._values or all(finished(job, seed) for seed in job.seeds):
            return "COMPLETE"
        if self.begun[k]["pruned"] is not None:
            return "PRUNED"
        return "FAIL" if k in self.failed else "RUNNING"

    def value(self, k: int) -> float:
        """Returns the mean return of a setting that has finished, over its training and its seeds."""
        if k not in self._values:
            job = self.settings[k].job
            self._values[k] = float(read(job.label, [job.folder(seed) for seed in job.seeds]).evals.mean())
        return self._values[k]

    def best(self) -> int | None:
        """Returns which setting has the best mean return, of those that have finished; None where none has."""
        done = [k for k in range(len(self.begun)) if self.state(k) == "COMPLETE"]
        return max(done, key=self.value) if done else None

    def row(self) -> dict[str, str]:
        """Returns what was chosen, and of what."""
        k, states = self.best(), [self.state(k) for k in range(len(self.begun))]
        chosen = "-" if k is None else " ".join(f"{field}={value}" for field, value in self.begun[k]["values"].items())
        return {
            "environment": self.env, "agent": self.entry.token, "chosen": chosen, "settings": str(len(states)),
            "pruned": str(states.count("PRUNED")), "failed": str(states.count("FAIL")),
            "mean return": "-" if k is None else f"{self.value(k):,.4g}", "on": words(self._what.chosen()),
        }  # fmt: skip

    def command(self) -> str | None:
        """Returns the command that measures the chosen setting on other seeds."""
        if (k := self.best()) is None:
            return None
        usual, mine = vars(Schedule()), vars(self._schedule)
        other = {name: value for name, value in mine.items() if value != usual[name]}
        rest = " ".join(f"--{name.replace('_', '-')} {written(value)}" for name, value in other.items())
        first = self._what.first_seed + self._what.seeds
        where = f"--out {self._place.out} --name {self._place.name}-chosen"
        token = self.settings[k].token
        return f"wgf compare --env {self.env} --agents {token} --preset {self._what.preset} --first-seed {first} --seeds 5 {rest} {where}"

    def _setting(self, values: Mapping[str, str]) -> Setting:
        return setting(with_values(self.entry.token, values), self._what, self.env, self._schedule, self._place)

    def _told(self, sampler: Any) -> Any:
        """Returns a study of optuna that knows all that was begun."""
        study = self._optuna.create_study(direction="maximize", sampler=sampler)
        for k, trial in enumerate(self.begun):
            state = self.state(k)
            study.add_trial(
                self._optuna.trial.create_trial(
                    state=self._optuna.trial.TrialState[state],
                    value=self.value(k) if state == "COMPLETE" else None,
                    params={field: _number(law, trial["values"][field]) for field, law in self.entry.space.items()},
                    distributions=self._laws,
                    intermediate_values=self._evaluations(k),
                )
            )
        return study

    def _evaluations(self, k: int) -> dict[int, float]:
        """Returns the evaluation returns of a setting by their steps, where all seeds have them: their mean."""
        job = self.settings[k].job
        each = [evaluations(job.folder(seed)) for seed in job.seeds]
        return {step: sum(looks[step] for looks in each) / len(each) for step in each[0] if all(step in looks for looks in each)}

    def _about(self) -> dict[str, Any]:
        job = setting(self.entry.token, self._what, self.env, self._schedule, self._place).job
        space = {field: list(values) for field, values in self.entry.space.items()}
        return {**replace(job, label="").identity(), "space": space, "seeds": list(job.seeds), "steps": self._schedule.steps}

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        held = read_sealed(self._path, lambda found: isinstance(found.get("begun"), list), "a search of wgf sweep")
        if different := difference(self._about(), held):
            raise ValueError(f"{self._path} holds a search with {different}; give another --name or --out")
        with doubted(f"{self._path} was not written by wgf"):
            for trial in held["begun"]:
                for field, law in self.entry.space.items():
                    if not self._laws[field]._contains(self._laws[field].to_internal_repr(_number(law, trial["values"][field]))):
                        raise ValueError(f"{field} is {trial['values'][field]}")
                if len(trial["values"]) != len(self.entry.space) or type(trial["pruned"]) not in (int, type(None)):
                    raise ValueError(f"it has {trial}")
        return list(held["begun"])

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(self._path, {**self._about(), "begun": self.begun})


class Search:
    """The studies of a file, which take turns."""

    def __init__(self, found: Sequence[Entry], what: Sweep, schedule: Schedule, place: Place) -> None:
        if bare := [entry.token for entry in found if not entry.space]:
            raise ValueError(f"agent {bare[0]!r} has nothing to search; give it a grid, as in grid: {{lr: {{low: 1e-4, high: 1e-2}}}}")
        self.studies = [Study(entry, env, what, schedule, place) for env in what.environments for entry in found]
        self.total = what.search * len(self.studies)
        self._folder = Path(place.out) / place.name

    def known(self) -> list[Setting]:
        """Returns what was begun, by an earlier call."""
        return [each for study in self.studies for each in study.settings]

    def due(self) -> list[Setting]:
        """Returns what was begun and not pruned."""
        return [each for study in self.studies for k, each in enumerate(study.settings) if study.begun[k]["pruned"] is None]

    def more(self) -> Setting | None:
        """Returns a setting of the study that has begun the fewest."""
        for study in sorted(self.studies, key=lambda study: len(study.begun)):
            if (found := study.more()) is not None:
                return found
        return None

    def tell(self, ended: Ended) -> None:
        """Notes a setting that failed."""
        for study in self.studies:
            if ended.reasons and ended.setting in study.settings:
                study.failed.add(study.settings.index(ended.setting))

    def hopeless(self) -> list[Setting]:
        """Returns what the median prunes."""
        return [each for study in self.studies for each in study.hopeless()]

    def states(self) -> dict[Setting, str]:
        """Returns a word for each setting that did not come to its end."""
        names = {"PRUNED": "pruned", "FAIL": "failed"}
        found = {each: study.state(k) for study in self.studies for k, each in enumerate(study.settings)}
        return {each: names[state] for each, state in found.items() if state in names}

    def about(self) -> str:
        """Writes chosen.md, .txt and .csv; returns the table with the commands that measure what was chosen."""
        commands = [command for study in self.studies if (command := study.command())]
        return "\n" + tables.write(self._folder / "chosen", [study.row() for study in self.studies], "\n".join([LUCK, "", *commands]))


def evaluations(folder: Path) -> dict[int, float]:
    """Returns the evaluation returns in the metrics.csv of a run that may be being written, by their steps."""
    try:
        text = contents(folder / "metrics.csv").decode()
    except (OSError, ValueError):
        return {}
    whole = text[: text.rfind("\n") + 1].splitlines()
    with doubted(f"{folder / 'metrics.csv'} is damaged"):
        found = {int(row["step"]): float(row["value"]) for row in csv.DictReader(whole) if row["tag"] == "eval/return"}
    return {step: value for step, value in found.items() if isfinite(value)}


def _law(optuna: Any, values: Values) -> Any:
    if not isinstance(values, Range):
        return optuna.distributions.CategoricalDistribution(values)
    if values.whole:
        return optuna.distributions.IntDistribution(values.low, values.high, log=values.log, step=values.step or 1)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _text(values: Values, drawn: Any) -> str:
    """Writes what was drawn as a command line takes it: a number with few digits, and within its range."""
    if not isinstance(values, Range) or values.whole:
        return str(drawn)
    return str(min(max(float(f"{drawn:.{DIGITS}g}"), values.low), values.high))


def _number(values: Values, text: str) -> Any:
    if not isinstance(values, Range):
        return text
    return int(text) if values.whole else float(text)
