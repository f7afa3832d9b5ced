"""What holds for every data set: units, the order of rows and of particles, weights that are rows, and parts that make a whole."""

import gzip
from itertools import islice

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import forgeries
from tests.answers import answered
from wgf.bnn import BayesianRegressor, data, flows
from wgf.bnn.fit import dev_size, fit
from wgf.bnn.model import deviation, log_density
from wgf.bnn.settings import Settings

SEED = st.integers(0, 10**6)
SMALL = Settings(hidden=(3,), particles=3, iterations=4, batch=7)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tol):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol * float(b.abs().amax()))


@settings(max_examples=6)
@given(
    seed=SEED,
    flow=st.sampled_from(["wgf", "svgd", "langevin"]),
    unit=st.floats(1e-3, 1e3),
    shift=st.floats(-10.0, 10.0),
    outputs=st.integers(1, 2),
)
def test_a_fit_knows_no_units(seed, flow, unit, shift, outputs):
    """Inputs and targets are standardised in float64 and then held in float32: 6e-8 each, which a few steps carry on."""
    x, y = normal(seed, 1, 30, 2), normal(seed + 1, 1, 30, outputs)
    settings = Settings(**{**vars(SMALL), "flow": flow})
    plain, scaled = fit(settings, x, y, [seed]), fit(settings, shift + x / unit, unit * (y + shift), [seed])
    close(scaled.predict(shift + x / unit), unit * (plain.predict(x) + shift), 1e-3)
    close(scaled.rmse(shift + x / unit, unit * (y + shift)), unit * plain.rmse(x, y), 1e-3)
    moved = plain.log_densities(x, y) - outputs * np.log(unit)
    close(scaled.log_densities(shift + x / unit, unit * (y + shift)), moved, 2e-3)


@given(seed=SEED, centred=st.booleans(), outputs=st.integers(1, 2))
def test_the_joint_density_knows_no_order_of_rows_and_a_weight_of_two_is_a_row_twice(seed, centred, outputs):
    model = Settings(hidden=(3, 2), particles=4, centred=centred).model(2, outputs)
    particles, order = 0.5 * normal(seed, 2, 4, model.net.weights + outputs + 1), torch.randperm(6)
    x, y, w = normal(seed + 1, 2, 6, 2), normal(seed + 2, 2, 6, outputs), normal(seed + 3, 2, 6).square()
    joint = model.log_joint(particles, x, y, w, 6)
    close(model.log_joint(particles, x[:, order], y[:, order], w[:, order], 6), joint, 1e-10)
    close(model.log_joint(particles.flip(1), x, y, w, 6), joint.flip(1), 1e-10)
    doubled = model.log_joint(particles, *(torch.cat([t, t], 1) for t in (x, y, w)), 12)
    close(doubled, model.log_joint(particles, x, y, 2.0 * w, 6), 1e-10)
    close(model.score(particles.flip(1), x, y, w, 6), model.score(particles, x, y, w, 6).flip(1), 1e-8)


@given(seed=SEED, factor=st.floats(0.1, 10.0), shift=st.floats(-5.0, 5.0))
def test_a_mixtures_density_and_deviation_move_with_their_unit_and_know_no_order_of_particles(seed, factor, shift):
    f, log_gamma, y = normal(seed, 2, 4, 5, 1), normal(seed + 1, 2, 4, 1), normal(seed + 2, 2, 5, 1)
    density, std = log_density(f, log_gamma, y), deviation(f, log_gamma)
    there = factor * (f + shift), log_gamma - 2.0 * np.log(factor)
    close(log_density(*there, factor * (y + shift)), density - np.log(factor), 1e-9)
    close(deviation(*there), factor * std, 1e-9)
    close(log_density(f.flip(1), log_gamma.flip(1), y), density, 1e-12)


@given(n=st.integers(1, 40), size=st.integers(1, 50))
def test_minibatches_show_every_row_equally_often(n, size):
    rows = torch.arange(n)
    seen = torch.cat([rows[batch] for batch in islice(flows.minibatches(n, size), n)])
    assert torch.bincount(seen, minlength=n).tolist() == [min(size, n)] * n


@given(n=st.integers(2, 20_000))
def test_a_dev_part_leaves_rows_to_train_on(n):
    assert 1 <= dev_size(n) < n
    assert dev_size(n) <= 500


@given(rows=st.integers(10, 300), count=st.integers(1, 4))
def test_a_split_has_every_row_once(rows, count):
    for split in data.splits("toy", data.Set(rows, 1, "", None, splits=count)):
        assert sorted([*split.train, *split.test]) == list(range(rows))


MODEL = BayesianRegressor(particles=4, hidden=3, iterations=30, lr=0.01, random_state=0)
X = np.random.default_rng(0).standard_normal((40, 2))
MODEL.fit(X, X.sum(1))


@given(seed=SEED, levels=st.tuples(st.floats(0.01, 0.98), st.floats(1e-3, 0.01)))
def test_intervals_lie_in_wider_ones_and_rows_are_predicted_each_by_itself(seed, levels):
    x, order = np.random.default_rng(seed).standard_normal((6, 2)) * 3.0, np.random.default_rng(seed).permutation(6)
    low, high = MODEL.predict_interval(x, levels[0])
    lower, higher = MODEL.predict_interval(x, sum(levels))
    assert ((lower < low) & (low < high) & (high < higher)).all()
    np.testing.assert_allclose(MODEL.predict(x[order]), MODEL.predict(x)[order], rtol=1e-5, atol=1e-6)
    assert MODEL.log_likelihood(x, MODEL.predict(x)) > MODEL.log_likelihood(x, MODEL.predict(x) + 100.0)


@given(power=st.integers(-300, 300), shift=st.sampled_from([0.0, 1.0, -3e8]))
@settings(max_examples=20)
def test_targets_of_any_size_are_fitted_or_refused_in_a_line(power, shift):
    y = shift + 10.0**power * X[:, 0]
    model = BayesianRegressor(particles=2, hidden=2, iterations=3, lr=0.01, random_state=0)
    found, said = answered(lambda: model.fit(X, y).predict(X, return_std=True))
    if said is None:
        assert all(np.isfinite(part).all() for part in found)
    else:
        assert "\n" not in said
        assert said.split()[0] in ("x", "y", "Input")


TOY = data.Set(3, 1, "", None)
WORDS = st.sampled_from(
    [
        b"1",
        b"-2.5",
        b"1e3",
        b"nan",
        b"inf",
        b"1_0",
        b"0x1",
        b"\0",
        b"x" * 300,
        b"\xc3\xa9",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\x0c",
        b",",
        b"1 2\n",
    ]
)
ANY = st.one_of(forgeries.RAW, st.lists(WORDS, max_size=14).map(b" ".join), st.lists(WORDS, max_size=14).map(b"".join))


@settings(max_examples=150)
@given(content=ANY, packed=st.sampled_from(["", "plain", "gz", "many"]))
def test_a_set_of_any_content_is_numbers_or_one_line_that_names_the_file(tmp_path_factory, content, packed):
    path = tmp_path_factory.getbasetemp() / "any" / "toy" / f"data.txt{'.gz' if packed else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.iterdir():
        old.unlink()
    path.write_bytes({"gz": gzip.compress(content), "many": gzip.compress(b"") * 1000 + gzip.compress(content)}.get(packed, content))
    with forgeries.bounded():
        found, said = answered(data.load, path.parents[1], "toy", TOY)
    if said is None:
        words = content.decode("ascii").split()
        np.testing.assert_array_equal(np.column_stack(found).ravel(), [float(word) for word in words])
        assert len(words) == 6
        assert np.isfinite(found.x).all()
    else:
        assert str(path) in said
        assert "\n" not in said
        assert len(said) < 1000


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6), packed=st.booleans())
def test_numbers_of_a_set_are_read_to_the_last_bit(tmp_path_factory, values, packed):
    path = tmp_path_factory.getbasetemp() / "bits" / "toy" / f"data.txt{'.gz' if packed else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.iterdir():
        old.unlink()
    rows = np.array(values).reshape(3, 2)
    text = "".join(" ".join(map(repr, row)) + "\n" for row in rows.tolist()).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    assert np.column_stack(data.load(path.parents[1], "toy", TOY)).tobytes() == rows.tobytes()
