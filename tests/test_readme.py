"""What the documents say holds: examples run, the map and the links resolve, commands and agents exist."""

import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ranks

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "runs/results/README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
]
MAP = (ROOT / "docs/map.md").read_text()
ROWS = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| `(tests/[\w/]+\.py)::(\w+)` \|$", MAP, re.MULTILINE)
TEXT = "\n".join(page.read_text() for page in PAGES if page.name != "sessions.md")  # which shows wrong commands too


def names(page, k=0):
    """The names that the k-th Python example of a page leaves."""
    found: dict = {}
    exec(compile(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[k], page, "exec"), found)
    return found


def test_every_row_of_the_map_is_read():
    assert len(ROWS) == len([line for line in MAP.splitlines() if line.startswith("|")]) - 2


@pytest.mark.parametrize(("function", "file", "test"), ROWS)
def test_a_row_of_the_map_resolves(function, file, test):
    if ".replicas." in function:
        pytest.importorskip("dm_control", reason="needs the extra dm-control, which is for Python below 3.13")
    assert callable(pkgutil.resolve_name(function))
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    assert all((page.parent / link).exists() for link in links), links


def test_the_example_of_an_agent_learns_saves_and_loads(tmp_path, monkeypatch):
    """Before it learns, episodes return 125 and 113 on average."""
    monkeypatch.chdir(tmp_path)
    found = names("README.md")
    agent, loaded = found["agent"], found["Agent"].load("cartpole")
    returns = agent.evaluate(10).returns.mean(1)
    assert (returns > 200.0).all()
    assert (loaded.evaluate(10).returns.mean(1) == returns).all()
    assert -10.0 <= loaded.predict([0.0, 0.0, 0.1, 0.0]).item() <= 10.0  # newtons: the environment's bounds


def test_the_python_example_runs():
    found = names("README.md", 1)
    assert abs(found["x"].mean().item()) < 0.2
    assert 0.7 < found["x"].std().item() < 1.2


def test_the_fleet_example_runs():
    found = names("docs/tasks.md")
    assert found["obs"].shape == found["next_obs"].shape == (1, 4096, 4)
    assert found["reward"].shape == (1, 4096)


def test_the_regression_example_runs():
    found = names("docs/regression.md")
    assert found["model"].score(found["X"], found["y"]) > 0.4
    assert 0.75 < found["covered"] < 1.0


def test_intervals_of_five_seeds_cover_what_the_results_page_says():
    covered = names("docs/results.md")["covered"]
    assert abs(covered["mean"] - 0.84) < 0.025  # four standard errors of a share of 4,000 are 0.023
    assert abs(covered["IQM"] - 0.89) < 0.02


def test_the_page_on_shards_runs_on_two_ranks(tmp_path):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/shards.md").read_text(), re.DOTALL)[0]
    (tmp_path / "page.py").write_text(code + "\nassert whole.shape == (256, 10) and x.shape == (128, 10)\n")
    assert [done[0] for done in ranks.together(2, tmp_path / "page.py")] == [0, 0]


def test_every_python_example_is_run():
    """Those of four pages run as one program a page: tests/test_site.py."""
    whole = sum(
        (ROOT / "docs" / page).read_text().count("```python\n") for page in ("start.md", "elsewhere.md", "engine.md", "choosing.md")
    )
    assert TEXT.count("```python\n") - whole == 6


def test_the_agents_that_commands_name_exist():
    from wgf.agents.registry import AGENTS

    lists = re.findall(r"--agents ([^#\n]+?)(?: --| *$| *#|\\| *\n)", (ROOT / "docs/command-line.md").read_text())
    named = re.findall(r"wgf train (\w[\w-]*)(?![\w:-])", TEXT) + [name.partition(":")[0] for names in lists for name in names.split()]
    assert len(named) >= 8
    assert set(named) <= set(AGENTS)


def test_the_modules_and_programs_that_commands_name_exist():
    modules, files = set(re.findall(r"python -m (wgf[\w.]+)", TEXT)), set(re.findall(r"tests/bench/[a-z_0-9]+\.py", TEXT))
    assert "wgf.runs.studies" in modules
    assert len(files) >= 3
    assert [name for name in modules if find_spec(name) is None] == []
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_studies_that_commands_name_exist():
    from wgf.runs.studies.main import STUDIES

    named = set(re.findall(r"python -m wgf\.runs\.studies ([a-z]\w*)", TEXT))
    assert len(named) >= 3
    assert named <= set(STUDIES)
