"""Settings without what they set: parts of a module that run by themselves, so that --help shows an agent's options without torch."""

import ast
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from wgf.agents import registry

__all__ = ["configuration", "excerpt"]


def configuration(agent: str, preset: str, env: str) -> Any:
    """Returns the settings of an agent's preset for an environment, without importing the agent, unless it is one of a person's own.

    They are what ``wgf.agents.training.description.resolve`` returns, of a class with the same fields, help and checks.

    **Raises** ValueError for a name that is not there, with the nearest one.
    """
    module = registry.located(agent, preset)
    cfg = excerpt(module, "PRESETS")["PRESETS"][preset] if module else registry.find(agent, preset)[1]
    return registry.scaled(cfg, agent, preset, env)


def excerpt(module: str, *names: str) -> dict[str, Any]:
    """Returns some names of a module with their values, after running those of its statements alone that they depend on.

    Names that come from another module of the project are excerpts of that one in turn, unless it is imported already. Of a class
    that is named, the fields and the checks come, ``__post_init__`` and what it calls; its other methods are left out.
    """
    if module in sys.modules:
        return vars(sys.modules[module])
    part = _part(module)
    for statement in part.body:
        if isinstance(statement, ast.ClassDef) and statement.name in names and statement not in part.run:
            _trim(statement)
    needed, kept = set(names), list[ast.stmt]()
    while more := [s for s in part.body if s not in kept and _bound(s) & needed]:
        kept += more
        needed |= {n.id for s in more for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    for statement in (s for s in part.body if s in kept and s not in part.run):
        if isinstance(statement, ast.ImportFrom) and str(statement.module).split(".")[0] == "wgf":
            part.names.update(_imported(str(statement.module), [a for a in statement.names if (a.asname or a.name) in needed]))
        else:
            exec(compile(ast.Module([statement], []), part.names["__file__"], "exec"), part.names)
            part.run.append(statement)
    return part.names


class _Part(NamedTuple):
    """What there is of a module so far: its names, all its statements, and those that have run."""

    names: dict[str, Any]
    body: list[ast.stmt]
    run: list[ast.stmt]


@cache
def _part(module: str) -> _Part:
    part, path = ModuleType(f"{module}:settings"), str(getattr(find_spec(module), "origin", None))
    part.__file__ = path
    sys.modules[part.__name__] = part  # where the texts of the fields are looked for
    return _Part(vars(part), ast.parse(Path(path).read_text("utf-8")).body, [])


def _imported(module: str, names: list[ast.alias]) -> dict[str, Any]:
    found = {}
    for name in names:
        known = excerpt(module, name.name)
        found[name.asname or name.name] = known[name.name] if name.name in known else import_module(f"{module}.{name.name}")
    return found


def _bound(statement: ast.stmt) -> set[str]:
    """Returns the names to which a statement gives values."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {name.asname or name.name.split(".")[0] for name in statement.names}
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
        return {statement.name}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _trim(kind: ast.ClassDef) -> None:
    """Leaves out the methods of a class that ``__post_init__`` does not call."""
    methods = {s.name: s for s in kind.body if isinstance(s, ast.FunctionDef)}
    called, found = set[str](), {"__post_init__"} & methods.keys()
    while found:
        called |= found
        words = {n.attr for name in found for n in ast.walk(methods[name]) if isinstance(n, ast.Attribute)}
        found = (words & methods.keys()) - called
    kind.body = [s for s in kind.body if not isinstance(s, ast.FunctionDef) or s.name in called]
