"""A file of settings, YAML or JSON, by the names of the command line's options. What stands in it runs no code and names none."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from wgf.agents.registry import located, named
from wgf.agents.training.ranges import check, chosen
from wgf.limits import contents
from wgf.shown import shown

__all__ = ["applied", "of", "read"]

LARGEST = 2**16  # bytes
DEEPEST = 20  # lists in lists
READS = "config"  # the option that names the file


@dataclass(frozen=True)
class _First:
    """What decides which other options there are."""

    agent: str = ""
    env: str = ""
    preset: str = "paper"


# what config.json of a run says of where and when it ran, and of what the options make anew
LEFT = {
    "config", "schedule", "stack", "seed", "own", "nets", "obs_size", "action_size", "versions", "device_name", "system", "host", "process",
    "commit", "started", "continued", "ranks",
}  # fmt: skip
_FIRST = {name: _First() for name in ("agent", "env", "preset")}
TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML of plain values. Words are words: of YAML 1.1's numbers and truth values, the plain ones of YAML 1.2 count, 1e-3 among them."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses aliases, which can make a small file large, tags, which make other things of words, and what is nested without end."""
        event = self.peek_event()
        what = "an alias" if isinstance(event, yaml.AliasEvent) else "a tag" if getattr(event, "tag", None) is not None else None
        if what:
            raise yaml.MarkedYAMLError(problem=f"{what} is not taken: write the value itself", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels", problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: Any) -> str:
        """Joins the two escapes by which JSON writes a letter beyond the first 65,536, and refuses one of them alone."""
        text: str = super().construct_scalar(node)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuses a name that comes twice, of which YAML takes the last."""
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, name in enumerate(names):
            if not isinstance(name, str) or name in names[:i]:
                wrong = "comes twice" if isinstance(name, str) else "is no name"
                raise yaml.MarkedYAMLError(problem=f"{shown(name)} {wrong}", problem_mark=node.value[i][0].start_mark)
        return super().construct_mapping(node, deep)


for _kind, _form in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9](_?[0-9])*)",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
}.items():
    _Loader.add_implicit_resolver(TAG + _kind, re.compile(f"({_form})$"), None)


def read(path: Path, env: str | None, agent: str | None) -> dict[str, Any]:
    """Returns the settings in a file by their names; those of a run, from its config.json, as the options that would begin it again.

    ``env`` and ``agent`` are what a person named on the command line: only these may be of a module that is imported.

    **Raises** ValueError, in one line, for what is no such file.
    """
    found = _parsed(path)
    if "seal" in found:
        from wgf.agents.training.checkpoint import unsealed  # which imports torch

        found = unsealed(found, path)
    with of(path):
        if isinstance(found.get("config"), dict) and isinstance(found.get("schedule"), dict):
            found = _of_a_run(found, env)
        names = {name: name.replace("-", "_") for name in found}
        if twice := [name for name in names if "-" in name and names[name] in found]:
            raise ValueError(f"setting {names[twice[0]]!r} comes twice")
        found = {names[name]: value for name, value in found.items()}
        first = [name for name in _FIRST if name in found]
        for name in first:
            chosen(_FIRST, name, found[name])
        for name, given, option in (("env", env, "--env"), ("agent", agent, "wgf train")):
            if given is None and name in first:
                named(name, found[name], option)
        if agent is None and "agent" in found:
            located(found["agent"], found.get("preset", _FIRST["preset"].preset))
        return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        data = contents(path, LARGEST)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; give a file of settings") from None
    try:
        found = yaml.load(data.decode(), _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or a number that is too long
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).split(";")[0]
        raise ValueError(f"{path}{f' line {mark.line + 1}' if mark else ''} cannot be read as YAML: {problem}") from None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path} holds no settings; write one in a line, as in steps: 1000")
    return found


def _of_a_run(about: Mapping[str, Any], env: str | None) -> dict[str, Any]:
    stack = about.get("stack")
    if not isinstance(stack, list) or not stack or not all(type(k) is int and k == stack[0] + i for i, k in enumerate(stack)):
        raise ValueError(f"stack is {shown(stack)}; the command line trains seeds that follow one another")
    if about.get("nets"):
        raise ValueError(f"that run had networks of its own, {shown(about['nets'])}: train it from Python, with nets=")
    if about.get("own") and env is None:
        raise ValueError(f"that run had an environment that a program gave, {shown(about.get('env'))}: name one with --env")
    kept = {name: value for name, value in about.items() if name not in LEFT}
    return {**about["config"], **about["schedule"], **kept, "seeds": len(stack), "first_seed": stack[0]}


def applied(groups: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns groups of options, dataclasses, with a file's settings in the places of their own.

    **Raises** ValueError, in one line that names the file, for a name that is none of theirs, with the nearest, and for a value that does
    not fit it.
    """
    owners = {field.name: group for group in groups.values() for field in fields(group) if field.name != READS}
    with of(path):
        values = {name: chosen(owners, name, value) for name, value in settings.items()}
        made = {
            part: replace(group, **{name: value for name, value in values.items() if owners[name] is group})
            for part, group in groups.items()
        }
        for group in made.values():
            check(group)
    return made


@contextmanager
def of(path: Path) -> Iterator[None]:
    """Puts the name of the file before what is wrong in it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
