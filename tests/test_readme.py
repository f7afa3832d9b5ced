"""The README's map resolves: each row names a function that exists and a test that exists."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROWS = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| `(tests/[\w/]+\.py)::(\w+)` \|$", README, re.MULTILINE)


def test_every_row_of_the_map_is_read():
    table = README.split("## The map")[1].split("## ")[0]
    assert len(ROWS) == len([line for line in table.splitlines() if line.startswith("|")]) - 2


@pytest.mark.parametrize(("function", "file", "test"), ROWS)
def test_a_row_of_the_map_resolves(function, file, test):
    module, _, name = function.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_the_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert abs(names["x"].mean().item()) < 0.2
    assert 0.7 < names["x"].std().item() < 1.2


def test_the_agents_that_it_trains_exist():
    from agents.registry import AGENTS

    named = re.findall(r"wgf train ([\w-]+)", README) + re.search(r"--agents ([^:#]+):", README).group(1).split()
    assert len(named) >= 4
    assert set(named) <= set(AGENTS)
