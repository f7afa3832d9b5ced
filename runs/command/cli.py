"""The command line, ``wgf COMMAND ...``. What is heavy is imported when a command needs it."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wgf
from wgf.runs.command.answers import UsageError, answer, launch, refuse, say

__all__ = ["HELP", "main", "run"]

HELP = """usage: wgf COMMAND ...

Wasserstein gradient flows on particles: train and compare policies, fit Bayesian networks.

  wgf train AGENT --env ENV      trains an agent; all its seeds are one stacked computation; a run that was stopped or killed goes on
  wgf resume RUN                 goes on with a run, by what it says about itself
  wgf compare --env ENV          trains what is missing, then writes a figure and a table of several agents
  wgf bench AGENT ...            times agents on this machine: an update, a step, and what a whole training would take
  wgf sweep FILE.yaml            trains agents x settings x environments x seeds of a file side by side, or searches among them
  wgf eval RUN                   plays episodes with a saved policy: tells their returns, and films one if asked
  wgf export RUN FILE.onnx       writes a saved policy as an ONNX model
  wgf agents                     lists the agents and their presets
  wgf doctor [AGENT --env ENV]   looks at this machine, and whether a run of wgf train fits it
  wgf multigoal                  trains two agents on the task with four goals and draws what they do
  wgf bnn --data DIR             fits Bayesian networks to the standard sets, beside the published table
  wgf bnn-data fetch --data DIR  fetches these sets
  wgf completion SHELL           prints what completes all this in bash or zsh, as in: source <(wgf completion bash)
  wgf --version                  tells the versions of wgf and of torch

  python -m wgf.runs.studies     lists the studies: one short recipe per figure or table of a paper

  wgf COMMAND --help             lists the options of a command (wgf train AGENT --help: those of an agent)

  wgf train dp-wgf-v --env Hopper-v5 --seeds 5 --steps 200000 --preset paper --device auto
  wgf compare --env Hopper-v5 --agents sac dp-wgf-v --seeds 5 --steps 100000
  tensorboard --logdir runs

exit codes: 0 done, 2 the command cannot be carried out as given, 70 a run failed, 75 interrupted, policies saved
            1 wgf doctor found what would stop a run
"""


def main() -> None:
    """Entry point of the console script."""
    launch(run)


def run(args: Sequence[str]) -> int:
    """Runs a command line; returns its exit code: 0 done, 2 unusable arguments, 70 a run failed, 75 interrupted."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "train": _train,
        "resume": _resume,
        "compare": _compare,
        "bench": _bench,
        "sweep": _sweep,
        "eval": _eval,
        "export": _export,
        "agents": _agents,
        "doctor": _doctor,
        "multigoal": partial(_study, "multigoal"),
        "bnn": partial(_study, "bnn"),
        "bnn-data": _bnn_data,
        "completion": _completion,
    }
    if not args or args[0] in ("-h", "--help"):
        say(HELP.rstrip())
        return 0
    if args[0] == "--version":
        say(f"wgf {wgf.__version__} (torch {version('torch')})")
        return 0
    if args[0] not in commands:
        near = difflib.get_close_matches(args[0], commands, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return refuse(f"command {args[0]!r} is unknown; choose from {', '.join(commands)}{hint}")
    return answer(lambda: commands[args[0]](args[1:]))


def _train(args: Sequence[str]) -> int:
    if args and args[0] in ("-h", "--help"):
        say("usage: wgf train AGENT --env ENV ...    (wgf train AGENT --help: all options)\n")
        return _agents([])
    job = _job("train", args)
    from wgf.runs.trainer.reuse import complete
    from wgf.runs.trainer.shared import shared, spoken

    return spoken(lambda: shared(job, say)) if job.shards else complete([job], say)


def _job(command: str, args: Sequence[str]) -> Any:
    """Returns what is to be trained, by an agent's name and the options of ``wgf train``, which may stand in a file."""
    rest = args[1:] if args and not args[0].startswith("-") else args
    own = args[0] if rest is not args else None
    path, settings = _file(args, own)
    name = settings.pop("agent", None)
    name = name if own is None else own
    if name is None and path is not None:
        raise UsageError(f"{path} names no agent; write one in it, as in agent: dp-wgf-v, or first: wgf {command} dp-wgf-v --config {path}")
    if name is None:
        raise UsageError(f"{command} needs an agent first, as in: wgf {command} dp-wgf-v --env Hopper-v5 (see wgf agents)")
    from wgf.agents.training.ranges import check
    from wgf.agents.training.schedule import Schedule
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.excerpt import configuration
    from wgf.runs.command.options import Place, What, together
    from wgf.runs.command.tokens import label, override, split

    token, (name, own_preset, own_settings) = name, split(name)
    first = {what: settings.get(what, getattr(What, what)) for what in ("preset", "env")}
    first |= {what: value for what in first if (value := _ahead(args, f"--{what}")) is not None}
    preset, env = own_preset or first["preset"], first["env"]
    task = What(env=env, preset=preset)
    groups = _filled({"task": task, "agent": configuration(name, preset, env), "schedule": Schedule(), "place": Place()}, settings, path)
    groups["agent"] = override(groups["agent"], own_settings)
    chosen = parse(together("Train", groups), rest, default=together("Train", groups)(**groups), prog=f"wgf {command} {name}")
    check(chosen.agent)
    from wgf.runs.trainer import training

    what, cfg = chosen.task, replace(training.resolve(name, preset, env), **vars(chosen.agent))
    return training.Job(label(token), name, preset, cfg, what.env, what.chosen(), chosen.schedule, chosen.place, what.shards)


def _file(args: Sequence[str], agent: str | None = None) -> tuple[Path | None, dict[str, Any]]:
    """Returns the file that --config names, and the settings in it."""
    named = _ahead(args, "--config")
    if named is None:
        return None, {}
    from wgf.runs.command.configuration import read

    return Path(named), read(Path(named), _ahead(args, "--env"), agent)


def _filled(groups: dict[str, Any], settings: dict[str, Any], path: Path | None) -> dict[str, Any]:
    if path is None:
        return groups
    from wgf.runs.command.configuration import applied

    return applied(groups, settings, path)


def _doctor(args: Sequence[str]) -> int:
    if args and args[0] in ("-h", "--help"):
        say("usage: wgf doctor [AGENT --env ENV ...]\n")
        say("Looks at versions, threads, GPUs, pictures without a display, the compiler, folders and data sets, and tells what is wrong.")
        say("With the words and options of wgf train it looks too whether that run has the memory and the disk that it needs.")
        return 0
    planned = []
    if args:
        job = _job("doctor", args)
        from wgf.runs.trainer.plan import plan

        planned = list(plan(job))
    from wgf.runs.command.doctor import examine

    return examine(planned, say)


def _sweep(args: Sequence[str]) -> int:
    from wgf.agents.training.schedule import Schedule
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.options import Ordered, Place, Sweep, together

    groups: dict[str, Any] = {"order": Ordered(), "task": Sweep(), "schedule": Schedule(), "place": Place()}
    if not args or args[0].startswith("-"):
        if {"-h", "--help"}.isdisjoint(args):
            raise UsageError("sweep needs a file first, as in: wgf sweep lr.yaml (see docs/sweep.md)")
        parse(together("Trainings", groups), args, prog="wgf sweep FILE.yaml")
    from wgf.runs.command.configuration import applied, read

    order, path = groups.pop("order"), Path(args[0])
    groups = {"order": order, **applied(groups | {"place": Place(name=path.stem)}, read(path, None, None), path)}
    kind = together("Trainings", groups)
    chosen = parse(kind, args[1:], default=kind(**groups), prog="wgf sweep FILE.yaml")
    from wgf.runs.sweeps.sweep import sweep

    return sweep(path, chosen.order, chosen.task, chosen.schedule, chosen.place, say)


def _resume(args: Sequence[str]) -> int:
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.options import Resume

    chosen = parse(Resume, args, prog="wgf resume")
    from wgf.runs.trainer.training import resume

    return resume(chosen.run, chosen.steps, say, chosen.env, chosen.agent)


def _compare(args: Sequence[str]) -> int:
    from wgf.agents.training.schedule import Schedule
    from wgf.runs.command.options import Contest, Place

    chosen = _of_agents("Compare", {"task": Contest(), "schedule": Schedule(), "place": Place()}, args)
    from wgf.runs.trainer.compare import compare

    return compare(chosen.task, chosen.schedule, chosen.place, say)


def _bench(args: Sequence[str]) -> int:
    from wgf.agents.training.schedule import Schedule
    from wgf.runs.command.options import Bench, Computer

    chosen = _of_agents("Bench", {"task": Bench(), "schedule": Schedule(steps=1_000_000), "computer": Computer()}, args)
    from wgf.runs.trainer.bench import bench

    return bench(chosen.task, chosen.schedule, chosen.computer, say)


def _of_agents(name: str, groups: dict[str, Any], args: Sequence[str]) -> Any:
    """Returns the options of a command that takes several agents with their settings."""
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.options import together

    path, settings = _file(args)
    groups, kind, prog = _filled(groups, settings, path), together(name, groups), f"wgf {name.lower()}"
    try:
        return parse(kind, args, default=kind(**groups), prog=prog)
    except UsageError as error:
        meant = "; settings of an agent follow its name, as in sac:lr=1e-3" if "is unknown (see" in str(error) else ""
        raise UsageError(f"{error}{meant}") from None


def _eval(args: Sequence[str]) -> int:
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.options import Show

    chosen = parse(Show, args, prog="wgf eval")
    from wgf.runs.command.show import show

    show(chosen, say)
    return 0


def _export(args: Sequence[str]) -> int:
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.options import Export

    chosen = parse(Export, args, prog="wgf export")
    from wgf.runs.command.show import export

    say(export(chosen.run, chosen.file, chosen.policy, chosen.env, chosen.agent))
    return 0


def _study(name: str, args: Sequence[str]) -> int:
    from wgf.runs.studies.main import run

    return run(name, args, f"wgf {name}")


def _bnn_data(args: Sequence[str]) -> int:
    from wgf.runs.studies.main import run

    if args[:1] not in (["fetch"], ["--help"], ["-h"]):
        return refuse("bnn-data needs a word first, as in: wgf bnn-data fetch --data DIR")
    return run("bnn_data", [a for a in args if a != "fetch"], "wgf bnn-data fetch")


def _agents(args: Sequence[str]) -> int:
    if args and args[0] not in ("-h", "--help"):
        return refuse(f"agents takes no arguments, not {args[0]!r}")
    from wgf.runs.command.catalogue import catalogue

    say(catalogue().rstrip())
    return 0


def _completion(args: Sequence[str]) -> int:
    from wgf.runs.command.arguments import parse
    from wgf.runs.command.options import Completion

    shell = parse(Completion, args, prog="wgf completion").shell
    from wgf.runs.command.completion import script

    say(script(shell).rstrip())
    return 0


def _ahead(args: Sequence[str], option: str) -> str | None:
    """The value of an option that decides what the others mean, read before the rest; the last one counts."""
    for i in reversed(range(len(args))):
        if args[i] == option and i + 1 < len(args):
            return args[i + 1]
        if args[i].startswith(option + "="):
            return args[i].split("=", 1)[1]
    return None
