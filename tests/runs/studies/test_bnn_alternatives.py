"""The table of alternatives on a small set, recomputed from what it writes; and the Gaussian process that stands in it."""

import numpy as np
import pytest
from scipy.stats import norm

from tests.runs.studies.test_bnn import read
from wgf.bnn import data
from wgf.runs.studies import bnn_gp, bnn_report
from wgf.runs.studies.main import main
from wgf.runs.trainer.statistics import holm, resampled

STUDY = ["bnn_alternatives", "--sets", "small", "--flows", "svgd", "smi:particles=2:draws=3", "--iterations", "20"]


def test_the_table_of_alternatives_follows_from_the_splits(folder, capsys):
    assert main(STUDY) == 0
    place = folder / "runs" / "alternatives"
    rows, each = read(place / "alternatives.csv"), read(place / "alternatives-splits.csv")
    assert [row["method"] for row in rows] == ["svgd, tuned over 2", "smi, tuned over 2", "gp"]
    values = {(m, c): np.array([float(r[c]) for r in each if r["method"] == m]) for m in ("svgd, tuned over 2", "smi, tuned over 2", "gp")
              for c in ("rmse", "log_likelihood")}  # fmt: skip
    found = {}
    for row in rows[1:]:
        for word, column in (("RMSE", "rmse"), ("log-likelihood", "log_likelihood")):
            gap, p = resampled(values[row["method"], column], values["svgd, tuned over 2", column], 1.0 / 9.0)
            assert row[f"{word} - svgd"] == f"{gap.value:+.3g} [{gap.low:+.3g}, {gap.high:+.3g}]"
            assert row[word] == bnn_report.mean(values[row["method"], column])
            found[row["method"], word] = p
    for (method, word), p in zip(found, holm(list(found.values())), strict=True):
        assert next(r for r in rows if r["method"] == method)[f"p of {word}, Holm"] == f"{p:.2g}"
    assert (rows[0]["RMSE - svgd"], rows[0]["p of RMSE, Holm"], rows[2]["spread"]) == ("-", "-", "-")
    smi = [place / "small" / f"smi,particles=2,draws=3,lr={rate}" for rate in (0.008, 0.016)]
    dev = np.array([[float(row["dev_log_likelihood"]) for row in read(path / "splits.csv")] for path in smi])
    last = [[float(r["value"]) for r in read(path / "curves.csv") if (r["measure"], r["step"]) == ("spread", "20")] for path in smi]
    assert rows[1]["spread"] == f"{np.array(last)[dev.argmax(0), range(3)].mean():.2g}"
    before = (place / "small" / "gp" / "splits.csv").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*STUDY, "--sets", "small"]) == 0
    assert (place / "small" / "gp" / "splits.csv").stat().st_mtime_ns == before
    assert "small gp" not in capsys.readouterr().out


def test_a_gaussian_process_scores_every_split_and_refuses_a_folder_of_others(folder):
    rows, place, said = data.load(folder / "sets", "small"), folder / "gp", []
    bnn_gp.fit(place, "small", rows, 2, said.append)
    found = bnn_report.read("gp", place)
    for s, split in enumerate(data.splits("small")[:2]):
        mean, std = bnn_gp.predict(rows.x[split.train], rows.y[split.train], rows.x[split.test])
        y, new = rows.y[split.test], ~data.repeated(rows, split)
        assert 0 < new.sum() < len(new)
        assert found.columns["rmse"][s] == pytest.approx(np.sqrt(((mean - y) ** 2).mean()))
        assert found.columns["log_likelihood"][s] == pytest.approx(norm.logpdf(y, mean, std).mean())
        assert found.columns["rmse_unseen"][s] == pytest.approx(np.sqrt(((mean - y)[new] ** 2).mean()))
        assert found.columns["log_likelihood_unseen"][s] == pytest.approx(norm.logpdf(y, mean, std)[new].mean())
    assert np.isnan(found.columns["dev_rmse"]).all()
    assert len(said) == 2
    with pytest.raises(ValueError, match="gp holds a fit with another splits; give another --out"):
        bnn_gp.fit(place, "small", rows, 3, said.append)


def test_a_gaussian_process_finds_the_noise_and_does_not_know_where_there_are_no_data():
    """y = 7 + 300 sin(2 x) + noise of deviation 30, and an input on another scale that says nothing."""
    random = np.random.default_rng(0)
    x = np.column_stack([random.uniform(-2.0, 2.0, 150), 1e3 + 50.0 * random.standard_normal(150)])
    y = 7.0 + 300.0 * np.sin(2.0 * x[:, 0]) + 30.0 * random.standard_normal(150)
    mean, std = bnn_gp.predict(x, y, np.array([[0.5, 1e3], [0.5, 1.1e3], [60.0, 1e3]]))
    truth = 7.0 + 300.0 * np.sin(1.0)
    assert std[:2] == pytest.approx(30.0, rel=4.0 / np.sqrt(2 * 150) + 0.1)  # of the noise, and what the function leaves open
    assert mean[:2] == pytest.approx(truth, abs=2.0 * 30.0 / np.sqrt(10))  # some ten rows within a length
    assert std[2] > 200.0
    assert mean[2] == pytest.approx(y.mean(), abs=1.0)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--splits", "1"], "splits is 1; a difference takes at least 2, and 0 uses all"),
        (["--flows", "smi", "smi"], "flow 'smi' is named twice; name it once"),
        (["--iterations", "0"], "iterations is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder, capsys, args, says):
    assert main([*STUDY, *args]) == 2
    assert capsys.readouterr().err.startswith(f"wgf: {says}")
