"""Lists the agents and their presets. It reads the sources and imports no torch, so the list appears at once."""

import ast
from importlib.util import find_spec
from pathlib import Path

from wgf.agents.registry import AGENTS

__all__ = ["catalogue", "first_line", "summary"]

DEFAULT = """
The default is --preset paper: the settings of the agent's paper (for most agents Zhang et al. 2018, Tables 4 to 6).
--preset modern takes settings used today: wider ReLU networks, larger minibatches, twin Q networks, advantages that bootstrap.
--preset strong takes the critic of FlashSAC (2026): residual blocks with batch norm and a law of Q.
--preset strong-small is the same for a processor without a GPU.
--preset nsr-es, bges, wnes and bg-wnes, of es, add novelty, a guide by what was done, the natural gradient of that, and both.
--preset bgpg and bg-wnpg, of wnpg, add the behaviour-guided penalty of its paper, without and with the natural gradient.
wgf train AGENT --help lists the value of each setting.
"""


def catalogue() -> str:
    """Returns one line per preset, with the default marked, and a paragraph that says what the presets are."""
    lines = []
    for name, presets in AGENTS.items():
        for preset, module in presets.items():
            mark = "(default)" if preset == "paper" else ""
            lines.append(f"{name:9} --preset {preset:12} {mark:9}  {summary(module)}")
    return "\n".join(lines) + "\n" + DEFAULT


def summary(module: str) -> str:
    """Says what an agent is: the first line of its docstring, without its reference."""
    return first_line(f"wgf.agents.{module}").split(" (")[0].rstrip(".")


def first_line(module: str) -> str:
    """Returns the first line of a module's docstring, read from its source."""
    spec = find_spec(module)
    source = Path(str(spec and spec.origin)).read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
