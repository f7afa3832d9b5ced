"""The study of short JKO steps: its law is the oracle's, its scheme the closed form's, and it writes what it says."""

import pytest
import torch

from tests import oracles
from wgf.runs.studies import fokker_planck as study


def test_the_law_is_that_of_ornstein_and_uhlenbeck():
    for time in (0.0, 0.3, 2.0):
        expected = oracles.ornstein_uhlenbeck(study.MEAN, study.STD, time)
        assert study.law(torch.tensor(time, dtype=torch.float64)).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_path_holds_the_start_and_every_step_of_the_scheme():
    """Inner steps leave (1 - 3.5 / 42.5)^200 = 3e-8 of a move."""
    moments = study.path(0.4, 10)
    assert moments[:, 0].tolist() == pytest.approx([study.MEAN / 1.4**k for k in range(6)], abs=1e-6)
    assert moments[0, 1].item() == pytest.approx(study.STD)


def test_the_recipe_writes_a_table_of_errors_that_halve_and_a_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "STEPS", (0.4, 0.2))
    assert study.main(study.Options(tmp_path / "new", particles=10), print) == 0
    for end, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert (tmp_path / "new" / f"fokker_planck.{end}").read_bytes().startswith(start)
    assert (tmp_path / "new" / "fokker_planck.txt").read_text() in capsys.readouterr().out
    first, second = (
        [c.strip() for c in line.split("|")[1:-1]] for line in (tmp_path / "new/fokker_planck.md").read_text().splitlines()[2:4]
    )
    end = oracles.ornstein_uhlenbeck(study.MEAN, study.STD, study.TIME)
    assert [first[0], first[3], second[3]] == ["0.4", "-", "1.93"]  # 2 - h / 6 with the longer h
    for row in (first, second):
        assert float(row[1]) - float(row[2]) == pytest.approx(end[0], abs=2e-4)
        assert float(row[4]) - float(row[5]) == pytest.approx(end[1], abs=2e-4)
