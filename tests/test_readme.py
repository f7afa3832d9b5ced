"""The README's map resolves: each row names a function that exists and a test that exists."""

import pkgutil
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
    assert callable(pkgutil.resolve_name(function))
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def run(k):
    """The names that the k-th example leaves."""
    names: dict = {}
    exec(compile(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[k], "README.md", "exec"), names)
    return names


def test_the_fleet_example_runs():
    names = run(1)
    assert names["obs"].shape == names["next_obs"].shape == (1, 4096, 4)
    assert names["reward"].shape == (1, 4096)


def test_the_regression_example_runs():
    names = run(2)
    assert names["model"].score(names["X"], names["y"]) > 0.4
    assert 0.75 < names["covered"] < 1.0


def test_the_python_example_runs():
    names = run(0)
    assert abs(names["x"].mean().item()) < 0.2
    assert 0.7 < names["x"].std().item() < 1.2


def test_the_agents_that_it_trains_exist():
    from wgf.agents.registry import AGENTS

    named = re.findall(r"wgf train ([\w-]+)", README) + re.search(r"--agents ([^:#]+):", README).group(1).split()
    assert len(named) >= 4
    assert set(named) <= set(AGENTS)
