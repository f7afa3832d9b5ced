"""A data set that is fitted in a moment."""

import numpy as np
import pytest

from wgf.bnn import data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set of 60 rows, ten of which occur twice, with three splits."""
    random = np.random.default_rng(0)
    x = random.uniform(-1.0, 1.0, (50, 2))
    rows = np.column_stack([x, 3.0 * x[:, 0] - x[:, 1] ** 2 + 0.1 * random.standard_normal(50)])
    (tmp_path / "sets" / "small").mkdir(parents=True)
    np.savetxt(tmp_path / "sets" / "small" / "data.txt", np.concatenate([rows, rows[:10]]))
    monkeypatch.setitem(data.SETS, "small", data.Set(60, 2, "nothing", None, splits=3, hidden=7, batch=16))
    monkeypatch.setenv("WGF_DATA", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
