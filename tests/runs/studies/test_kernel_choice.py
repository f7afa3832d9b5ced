"""The study of kernels: what particles keep where that is known, how long a step may be, and what the recipe writes."""

import math

import pytest
import torch

from wgf.runs.studies import kernel_choice as study

SHORT = study.Options(time=200.0, repeats=2)


def test_ten_particles_in_ten_axes_keep_the_radius_of_a_simplex():
    """SVGD with the median bandwidth: M <= d + 1 particles rest at a mean squared radius of log M, of which the law has d."""
    kept = study.rest("svgd", "RBF, median", 10, torch.ones(10), study.STEP, SHORT)
    assert kept == pytest.approx(math.sqrt(math.log(10.0) / 10.0), rel=1e-3)


def test_what_is_kept_is_measured_in_units_of_the_law():
    """One axis: scaled with its law, the flow is the same with a step that is the square of the scale times as long."""
    unit = study.rest("svgd", "RBF, median", 10, torch.ones(1), 0.2, SHORT)
    wide = study.rest("svgd", "RBF, median", 10, torch.full((1,), 3.0), 1.8, study.Options(time=9.0 * SHORT.time, repeats=2))
    assert wide == pytest.approx(unit, rel=1e-2)
    assert unit == pytest.approx(0.9, abs=0.1)


def test_the_largest_step_of_blob_is_below_two_over_its_steepest_slope():
    """Its own score alone has the slope 1 / 0.1 in an axis of variance 0.1: a step of 0.2 is the last that can hold."""
    kept = study.rest("blob", "RBF, median", 10, torch.full((1,), 0.1**0.5), 0.05, SHORT)
    assert math.isfinite(kept)
    assert not math.isfinite(study.rest("blob", "RBF, median", 10, torch.full((1,), 0.1**0.5), 0.4, SHORT))
    assert study.largest(kept, "blob", "RBF, median", torch.full((1,), 0.1**0.5), SHORT) == study.STEP


def test_the_recipe_writes_a_row_per_velocity_and_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "AXES", (1, 2))
    monkeypatch.setattr(study, "VELOCITIES", {"svgd": study.VELOCITIES["svgd"]})
    assert study.main(study.Options(tmp_path, time=2.0, repeats=1), lambda text: None) == 0
    head, _, *rows = (tmp_path / "kernel_choice.md").read_text().splitlines()[:6]
    cells = [cell.strip() for cell in head.split("|")[1:-1]]
    assert cells[:3] == ["velocity", "kernel", "kept, d = 1"]
    assert {"kept, d = 10, unequal", "step, d = 2"} <= set(cells)
    assert [row.split("|")[2].strip() for row in rows] == list(study.KERNELS)
    assert (tmp_path / "kernel_choice.png").read_bytes().startswith(b"\x89PNG")
