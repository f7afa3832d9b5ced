"""What a shell completes: commands, agents, environments and options. tyro writes the script, of the dataclasses of the options."""

import ast
import contextlib
import io
from dataclasses import make_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro

from wgf.agents import registry
from wgf.agents.training.schedule import Schedule
from wgf.runs.command import options
from wgf.runs.command.arguments import CONFIG, REGISTRY
from wgf.runs.command.excerpt import configuration, excerpt
from wgf.runs.command.options import Place, Shell, What, together

__all__ = ["ids", "script"]


def script(shell: Shell) -> str:
    """Returns the program that teaches a shell to complete ``wgf``."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        args = ["--tyro-write-completion", shell, "-"]
        tyro.cli(_commands(), args=args, prog="wgf", config=CONFIG, registry=REGISTRY)
    return text.getvalue()


def _commands() -> Any:
    """Returns a type whose command line is that of ``wgf``: a command, of train and doctor an agent, then options."""
    groups = {"task": _named(options.Contest, env=ids()), "schedule": Schedule(), "place": Place()}
    compare = together("Compare", groups)(**groups)
    timed = {"task": _named(options.Bench, env=ids()), "schedule": Schedule(), "computer": options.Computer()}
    bench = together("Bench", timed)(**timed)
    of_file = {"order": options.Ordered(), "task": options.Sweep(), "schedule": Schedule(), "place": Place()}
    agents = _one_of({agent: _training(agent) for agent in registry.AGENTS})
    commands: dict[str, Any] = {
        "train": make_dataclass("Train", [("what", agents)]),
        "doctor": make_dataclass("Doctor", [("what", agents)]),
    }
    commands |= {
        "resume": options.Resume,
        "compare": compare,
        "bench": bench,
        "sweep": together("Trainings", of_file)(**of_file),
        "eval": options.Show,
        "export": options.Export,
        "bnn": options.Study,
        "bnn-data": options.Fetch,
    }
    commands |= {"multigoal": excerpt("wgf.runs.studies.multigoal", "Options")["Options"], "agents": make_dataclass("Agents", [])}
    return _one_of({**commands, "completion": options.Completion})


def _training(agent: str) -> Any:
    presets = list(registry.AGENTS[agent])
    task, cfg = _named(What, env=ids(), preset=presets), configuration(agent, presets[0], What.env)
    groups = {"task": task, "agent": cfg, "schedule": Schedule(), "place": Place()}
    return together("Train", groups)(**groups)


@cache
def ids() -> list[str]:
    """Returns ids of environments for a person to choose from: the project's own, and Gymnasium's in MuJoCo, of the latest version.

    The project's own are the keys of ``TASKS`` in the sources of ``wgf.agents.tasks``, which imports torch.
    """
    import gymnasium

    sources = Path(str(getattr(find_spec("wgf.agents.tasks"), "origin", None))).parent.glob("*.py")
    tables = (s.value for path in sorted(sources) for s in ast.parse(path.read_text("utf-8")).body if isinstance(s, ast.AnnAssign))
    own = [str(key.value) for table in tables if isinstance(table, ast.Dict) for key in table.keys if isinstance(key, ast.Constant)]
    theirs = (name for name, spec in gymnasium.registry.items() if "envs.mujoco" in str(spec.entry_point) and name.endswith("-v5"))
    return [*(f"wgf/{name}-v0" for name in own), *theirs]


def _named(options: Any, **words: list[str]) -> Any:
    """Returns options of which some take one of these words, where a command line takes any word."""
    fields = [(name, Literal[tuple(known)], getattr(options, name)) for name, known in words.items()]
    return make_dataclass(options.__name__, fields, bases=(options,), frozen=True)()


def _one_of(kinds: dict[str, Any]) -> Any:
    """Returns a type whose command line begins with one of these names: each of a class of options, or of options with their values."""
    parts = []
    for name, kind in kinds.items():
        alone = isinstance(kind, type)
        about = tyro.conf.subcommand(name) if alone else tyro.conf.subcommand(name, default=kind)
        parts.append(Annotated[kind if alone else type(kind), about])
    return Union[tuple(parts)]  # noqa: UP007 - they are not known before it runs
