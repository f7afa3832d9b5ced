"""The notebooks of docs/notebooks run, their facts hold, and the answers that they show are of the programs that they show."""

import re

import nbformat
import pytest

from tests.notebooks import FOLDER, NAMES, cells, mark, read, run

FACTS = {
    "first_curve": """
assert all(steps.tolist() == [500, 1000, 1500, 2000] and returns.shape == (3, 4) for _, steps, returns in curves.values())
assert min(returns[:, -1].mean() for _, _, returns in curves.values()) > 150.0  # about 120 before it learns
assert found.interval.low < found.interval.value < found.interval.high
assert (again.evaluate(5).returns == agent.evaluate(5).returns).all()
""",
    "flow": """
assert (means - exact_means).norm(dim=1).max() < 0.25  # of a way of 5.7
assert ((deviations / exact_deviations) - 1.0).abs().max() < 0.2
assert (bent.mean(0) - torch.tensor([0.0, 1.0])).abs().max() < 0.3
assert ((bent.std(0) / torch.tensor([1.0, 1.5])) - 1.0).abs().max() < 0.25
""",
    "regression": """
assert all(abs(share - level) < 0.1 for level, share in covered.items())
assert abs(error - 0.2) < 0.03
assert width(chains, 3.5) > 1.3 * width(chains, 1.2)
assert width(chains, 3.5) > 1.2 * width(model, 3.5)
assert scores.mean() > 0.8
""",
}


def test_each_has_facts():
    assert set(FACTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_its_facts_hold(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = read(name)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS[name]))
    run(notebook, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_that_stand_in_it_are_of_its_programs(name):
    """Else `python -m tests.notebooks` writes them."""
    notebook = read(name)
    nbformat.validate(notebook)
    programs = cells(notebook)
    assert notebook.metadata.answers == mark(notebook)
    assert [cell.execution_count for cell in programs] == list(range(1, len(programs) + 1))
    kinds = {output.output_type for cell in programs for output in cell.outputs}
    assert "error" not in kinds
    assert not [output for cell in programs for output in cell.outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for cell in programs for output in cell.outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 150_000


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_to_files(name):
    texts = [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]
    links = [link.partition("#")[0] for text in texts for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []
