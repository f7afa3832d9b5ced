"""What a shell completes: commands, agents, environments and options. tyro writes the script, of the dataclasses of the options."""

import contextlib
import io
from dataclasses import make_dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Union

import tyro

from wgf.agents import registry
from wgf.agents.training.making import ids
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.arguments import CONFIG, REGISTRY
from wgf.runs.command.options import Completion, Contest, Export, Fetch, Ordered, Place, Resume, Shell, Show, Study, Sweep, What, together


def script(shell: Shell) -> str:
    """Returns the program that teaches a shell to complete ``wgf``."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        args = ["--tyro-write-completion", shell, "-"]
        tyro.cli(_commands(), args=args, prog="wgf", config=CONFIG, registry=REGISTRY)
    return text.getvalue()


def _commands() -> Any:
    """Returns a type whose command line is that of ``wgf``: a command, of train and doctor an agent, then options."""
    groups = {"task": _named(Contest, env=ids()), "schedule": Schedule(), "place": Place()}
    compare = together("Compare", groups)(**groups)
    of_file = {"order": Ordered(), "task": Sweep(), "schedule": Schedule(), "place": Place()}
    agents = _one_of({agent: _training(agent) for agent in registry.AGENTS})
    commands: dict[str, Any] = {
        "train": make_dataclass("Train", [("what", agents)]),
        "doctor": make_dataclass("Doctor", [("what", agents)]),
    }
    commands |= {
        "resume": Resume,
        "compare": compare,
        "sweep": together("Trainings", of_file)(**of_file),
        "eval": Show,
        "export": Export,
        "bnn": Study,
        "bnn-data": Fetch,
    }
    commands |= {"multigoal": import_module("wgf.runs.studies.multigoal").Options, "agents": make_dataclass("Agents", [])}
    return _one_of({**commands, "completion": Completion})


def _training(agent: str) -> Any:
    presets = list(registry.AGENTS[agent])
    task, cfg = _named(What, env=ids(), preset=presets), registry.find(agent, presets[0])[1]
    groups = {"task": task, "agent": cfg, "schedule": Schedule(), "place": Place()}
    return together("Train", groups)(**groups)


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
