"""One entry for all studies: the same errors in one line, the same --help, the same exit codes.

A study is a module of this folder with a dataclass ``Options`` and a function ``main(options, say) -> exit code``, and its name in STUDIES.
"""

import difflib
from collections.abc import Sequence
from importlib import import_module

from wgf.runs.command.answers import answer, refuse, say
from wgf.runs.command.arguments import parse
from wgf.runs.command.catalogue import first_line
from wgf.runs.command.excerpt import excerpt

__all__ = ["STUDIES", "main", "run"]

PROG = "python -m wgf.runs.studies"
STUDIES = (
    *(
        "bnn",
        "bnn_alternatives",
        "bnn_data",
        "bnn_spread",
        "figure1",
        "figure2",
        "figure3",
        "figure4",
        "fokker_planck",
        "kernel_choice",
        "ladder",
        "mujoco",
        "multigoal",
    ),
    *("natural", "sinc", "wpo_mixture"),
)


def main(args: Sequence[str]) -> int:
    """Runs ``NAME [options]``; returns its exit code: 0 done, 2 unusable arguments, 70 a run failed, 75 interrupted."""
    if not args or args[0] in ("-h", "--help"):
        say(f"usage: {PROG} NAME ...    ({PROG} NAME --help: its options)\n")
        say("\n".join(f"  {name:16} {first_line(f'wgf.runs.studies.{name}')}" for name in STUDIES))
        return 0
    name = args[0]
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=1)
        return refuse(f"study {name!r} is unknown; choose from {', '.join(STUDIES)}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return run(name, args[1:], f"{PROG} {name}")


def run(name: str, args: Sequence[str], prog: str) -> int:
    """Runs one study with the options of a command line; returns its exit code. ``prog`` is how a person started it."""

    def study() -> int:
        parse(excerpt(f"wgf.runs.studies.{name}", "Options")["Options"], args, prog=prog)  # --help and what is wrong need no torch
        module = import_module(f"wgf.runs.studies.{name}")
        code: int = module.main(parse(module.Options, args, prog=prog), say)
        return code

    return answer(study)
