"""The documentation site: it builds without a warning, its pages are in its tables of contents, and their programs run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wgf.agents.registry import AGENTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does, and any warning is an error."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", "-c", DOCS, ROOT, out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_no_page_needs_a_network(site):
    """A browser draws the formulas by itself: each page has them as MathML."""
    pages = [page.read_text() for page in site.rglob("*.html")]
    assert [tag for page in pages for tag in re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>", page)] == []
    assert "<math" in (site / "docs/engine.html").read_text()


def test_every_page_is_in_a_table_of_contents(site):
    menus = "".join((site / f"{page}.html").read_text() for page in ("docs/index", "docs/agents/index", "docs/api/index"))
    found = [page for kind in ("md", "ipynb") for page in DOCS.rglob(f"*.{kind}") if page.name != "index.md"]
    pages = {page.relative_to(DOCS).with_suffix(".html").name for page in found}
    assert {page for page in pages if f"{page}#" not in menus and f'{page}"' not in menus} == set()


def test_the_page_of_an_agent_has_its_formula_its_code_and_its_settings(site):
    """A setting's row: its name, its value in each preset, and what the class says of it."""
    for agent in AGENTS:
        text = (site / f"docs/agents/{agent}.html").read_text()
        assert 'class="math' in text
        assert "highlight-python" in text
    rows = re.findall(r"<tr.*?</tr>", (site / "docs/agents/wgf-sac.html").read_text(), re.DOTALL)
    found = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in rows if "--w2-radius" in row]
    assert [row[:6] for row in found] == [["--w2-radius", "0.0", "0.0", "0.0", "0.0", "Where"]]


def test_the_reference_writes_a_formula_as_its_docstring_has_it(site):
    assert "exp(-|x - y|^2 / h)" in (site / "docs/api/engine.html").read_text()


def test_the_page_of_metrics_has_every_metric_and_no_other():
    sources = [*(ROOT / "agents").rglob("*.py")]
    written = {tag for path in sources for tag in re.findall(r'"((?:charts|eval|losses|policy|flow|population)/\w+)"', path.read_text())}
    listed = set(re.findall(r"`(\w+/\w+)`", re.sub(r"\|[^|]*\|\n", "|\n", (DOCS / "metrics.md").read_text())))
    assert {tag for tag in listed if not tag.startswith("health/")} == written


@pytest.mark.parametrize("page", ["start.md", "elsewhere.md", "engine.md", "choosing.md"])
def test_the_programs_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    for program in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(program, page, "exec"), found)
    if page == "start.md":
        assert found["result"].returns.mean() > 150.0  # 120 before it learns
        assert found["river"].evaluate(20).returns.mean() > -8.0  # -14 for a boat that drifts
        assert found["particles"].std(0)[1] > 1.0
    elif page == "choosing.md":
        assert 0.9 < found["kept"] < 1.0
    elif page == "elsewhere.md":
        assert abs(found["theirs"] - found["ours"]) < 1e-6
        assert found["transport"].exact_cost(found["x"], found["y"]) < 0.1 * found["ot"].emd2(found["a"], found["b"], found["c"])
        assert ((found["low"] < found["y_test"]) & (found["y_test"] < found["high"])).mean() > 0.75
        assert found["search"].score(found["test"], found["y_test"]) > 0.3
    else:
        assert found["discrepancies"][-1] < 0.1 * found["discrepancies"][0]
        assert found["distances"][-1] < 0.02 * found["distances"][0]
