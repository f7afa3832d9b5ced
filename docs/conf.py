"""The documentation site, built by `make docs` from docs, the README, the results, the settings of the agents and the docstrings."""

import gc
import re
from collections import defaultdict
from dataclasses import fields
from importlib import import_module
from importlib.metadata import version as installed
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from wgf.agents.registry import AGENTS

gc.set_threshold(100_000, 50, 50)  # pages are trees, which the garbage collector walks again and again: a sixth of the time
project, author, copyright = "wgf", "The wgf authors", "the wgf authors"
release = version = installed("wgflow")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
html_math_renderer = "mathml"  # which browsers draw themselves, without a network
root_doc = "docs/index"
include_patterns = ["docs/**", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "runs/results/**"]
exclude_patterns = ["docs/_build/**"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks hold their answers: python -m tests.notebooks
suppress_warnings = ["toc.not_included"]  # tables of results, which the pages link; tests/test_site.py holds that the pages are there
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # "svgd.blob", not "<function blob>"
html_theme, html_title = "furo", f"wgf {release}"
html_static_path, html_css_files = ["site.css"], ["site.css"]
copybutton_prompt_text = "$ "


class Settings(SphinxDirective):
    """Of an agent by its name: a table of its settings, what each means, and its value in each preset."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns a table for each module that the agent's presets are of."""
        presets = defaultdict(list)
        for preset, module in AGENTS[self.arguments[0]].items():
            presets[module].append(preset)
        lines = [line for module, names in presets.items() for line in table(import_module(f"wgf.agents.{module}"), names)]
        parent = nodes.container()
        self.state.nested_parse(StringList(lines, "settings"), self.content_offset, parent)
        return parent.children


def table(agent: Any, names: list[str]) -> list[str]:
    """Returns lines of Markdown: a row per setting, a column per preset."""
    meaning: dict[tuple[str, str], list[str]] = {}
    for cls in reversed(agent.Config.__mro__[:-1]):
        meaning |= {(attr, ""): text for (_, attr), text in ModuleAnalyzer.for_module(cls.__module__).find_attr_docs().items()}
    head = ["setting", *(f"`{name}`" for name in names), "meaning"]
    rows = [head, ["---"] * len(head)]
    for field in fields(agent.Config):
        values = [f"`{shown(getattr(agent.PRESETS[name], field.name))}`" for name in names]
        text = " ".join(" ".join(meaning.get((field.name, ""), [])).split()).replace("|", "\\|").replace("``", "`")
        rows.append([f"`--{field.name.replace('_', '-')}`", *values, text])
    return ["", *(f"| {' | '.join(row)} |" for row in rows), ""]


def shown(value: Any) -> str:
    """Returns a setting as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def readable(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Makes reStructuredText of a docstring: | * _ and backslashes of formulas stand for themselves, but for ``code`` and **words**."""
    for k, line in enumerate(lines):
        parts = re.split(r"(``.+?``|\*\*[A-Z][\w ]*\*\*)", line)
        lines[k] = "".join(part if odd % 2 else re.sub(r"([\\|*_`])", r"\\\1", part) for odd, part in enumerate(parts))


def hidden(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out the fields of a NamedTuple, of which Python itself says only their number: the class says what they are."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def inline(writer: Any, node: nodes.math) -> None:
    """Writes a formula in a line."""
    writer.body.append(f'<span class="math">{tex2mathml(node.astext())}</span>')
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    """Writes a formula that stands alone."""
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Registers what is above."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.add_directive("settings", Settings)
    app.connect("autodoc-process-docstring", readable)
    app.connect("autodoc-skip-member", hidden)
