"""From what a file says to what is trained: agents x settings x environments, each a job of ``wgf train`` with all its seeds."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from math import prod
from typing import Any, NamedTuple, get_type_hints

from wgf.agents.training.description import resolve
from wgf.agents.training.ranges import chosen
from wgf.agents.training.ranges import shown as written
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place, Sweep
from wgf.runs.command.tokens import override, split
from wgf.runs.trainer.training import Job, job
from wgf.shown import shown

__all__ = ["Entry", "Range", "Setting", "Values", "entries", "setting", "settings", "with_values"]

ENTRY = ("agent", "grid")
BOUNDS = ("low", "high", "log", "step")
MOST = 100_000  # settings of a file


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both among them, of which a search draws: evenly, on a logarithmic scale, or in steps.

    ``whole``: only whole numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False


Values = Range | tuple[Any, ...]


class Setting(NamedTuple):
    """What is trained with all its seeds, by its name on a command line and in full."""

    token: str
    job: Job


class Entry(NamedTuple):
    """An agent of the file, by its name on a command line, with the settings that vary and their values."""

    token: str
    space: Mapping[str, Values]


def entries(what: Sweep, modules: Sequence[str]) -> list[Entry]:
    """Returns the agents of a file with their grids. Raises ValueError, naming the agent and the setting, for what does not fit."""
    for env in what.environments:
        _allowed("environment", env, modules)
    given = what.agents
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError(f"agents is {shown(given)}; it must be a list, as in agents: [sac, dp-wgf-v]")
    found = []
    for entry in given:
        token, own = _entry(entry)
        name, preset, settings = split(token)
        _allowed("agent", name, modules)
        cfg = override(resolve(name, preset or what.preset, what.environments[0]), settings)
        space = {**_grid(what.grid), **_grid(own)}
        try:
            found.append(Entry(token, {field: _values(cfg, field, values, bool(what.search)) for field, values in space.items()}))
        except ValueError as error:
            raise ValueError(f"agent {token!r}: {error}") from None
    return found


def settings(what: Sweep, found: Sequence[Entry], schedule: Schedule, place: Place) -> list[Setting]:
    """Returns every setting of a grid in every environment. Raises ValueError for one that comes twice, or is out of its range."""
    count = len(what.environments) * sum(prod(map(len, entry.space.values())) for entry in found)
    if count > MOST:
        raise ValueError(f"the grid has {count:,} settings; it must have at most {MOST:,}")
    tokens = [token for entry in found for token in _tokens(entry)]
    if twice := [token for i, token in enumerate(tokens) if token in tokens[:i]]:
        raise ValueError(f"agent {twice[0]!r} is named twice; name it once")
    return [setting(token, what, env, schedule, place) for env in what.environments for token in tokens]


def setting(token: str, what: Sweep, env: str, schedule: Schedule, place: Place) -> Setting:
    """Returns one setting in one environment."""
    return Setting(token, job(token, what.preset, env, what.chosen(), schedule, place))


def with_values(token: str, values: Mapping[str, str]) -> str:
    """Returns the name of an agent with more settings."""
    return ":".join([token, *(f"{field}={value}" for field, value in values.items())])


def _tokens(entry: Entry) -> Iterator[str]:
    for values in product(*entry.space.values()):
        yield with_values(entry.token, dict(zip(entry.space, values, strict=True)))


def _entry(entry: Any) -> tuple[str, Any]:
    """Returns the name of an agent and its own grid."""
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, Mapping) or not isinstance(entry.get("agent"), str):
        raise ValueError(f"agents has {shown(entry)}; it must be a name, as in sac:lr=1e-3, or {{agent: sac, grid: ...}}")
    _names("an agent", entry, ENTRY)
    return entry["agent"], entry.get("grid")


def _grid(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping | None):
        raise ValueError(f"grid is {shown(given)}; it must name settings with their values, as in grid: {{lr: [3e-4, 1e-3]}}")
    return {field.replace("-", "_"): values for field, values in (given or {}).items()}


def _values(cfg: Any, field: str, given: Any, searching: bool) -> Values:
    """Returns the values of a setting as a command line takes them, or the range of which a search draws."""
    owners = {f.name: cfg for f in fields(cfg)}
    if isinstance(given, Mapping):
        found = _range(field, given)
        for end in (found.low, found.high):
            chosen(owners, field, end)
        found = found._replace(whole=get_type_hints(type(cfg))[field] is int)
        if not searching:
            raise ValueError(f"{field} is a range, of which a search draws: give search: 20, or a list of values")
        return found
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError(f"{field} is {shown(given)}; it must be a list of values, as in {field}: [{written(getattr(cfg, field, 1))}]")
    values = tuple(written(chosen(owners, field, value)) for value in given)
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{field} has {twice[0]} twice; name it once")
    return values


def _range(field: str, given: Mapping[str, Any]) -> Range:
    _names(field, given, BOUNDS)
    low, high, log, step = (given.get(name, usual) for name, usual in zip(BOUNDS, (None, None, False, None), strict=True))
    numbers = all(type(x) in (int, float) for x in (low, high))
    if not numbers or not low < high or type(log) is not bool or (log and low <= 0):
        raise ValueError(f"{field} is {shown(dict(given))}; it must be {{low: 1e-4, high: 1e-2}}, and above 0 with log: true")
    if step is not None and (log or type(step) not in (int, float) or not 0 < step <= high - low):
        raise ValueError(f"{field} has step {shown(step)}; it must be a number from 0 to {high - low:g}, and log false")
    return Range(low, high, log, step)


def _names(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"{what} has {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"))


def _allowed(what: str, name: Any, modules: Sequence[str]) -> None:
    """Raises ValueError for what is no name, or names a module that a person has not named on the command line."""
    if not isinstance(name, str):
        raise ValueError(f"{what} {shown(name)} is no name")
    module = name.partition(":")[0]
    if module != name and module not in modules:
        raise ValueError(f"{what} is {name!r}, and no file has a module imported: say --modules {module}, if you trust that module")
