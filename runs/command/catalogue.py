"""The agents and their presets, read from the sources: shown at once, without importing torch."""

import ast
from importlib.util import find_spec
from pathlib import Path

from wgf.agents.registry import AGENTS

DEFAULT = """
The default is --preset paper: the settings of the agent's paper (for most Zhang et al. 2018, Tables 4 to 6), to answer to its figures.
--preset modern is what is used today: wider ReLU networks, larger minibatches, twin Q networks; advantages that bootstrap.
wgf train AGENT --help lists what each sets.
"""


def catalogue() -> str:
    """One line a preset, the default marked, and why it is the default."""
    lines = []
    for name, presets in AGENTS.items():
        for preset, module in presets.items():
            mark = "(default)" if preset == "paper" else ""
            lines.append(f"{name:9} --preset {preset:6} {mark:9}  {summary(module)}")
    return "\n".join(lines) + "\n" + DEFAULT


def summary(module: str) -> str:
    """What an agent is: the first line of its docstring, without its reference."""
    return first_line(f"wgf.agents.{module}").split(" (")[0].rstrip(".")


def first_line(module: str) -> str:
    """First line of a module's docstring, read from its source."""
    spec = find_spec(module)
    source = Path(str(spec and spec.origin)).read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
