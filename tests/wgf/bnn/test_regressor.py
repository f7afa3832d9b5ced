"""The estimator as a scikit-learn user meets it, and its predictive distribution against draws."""

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from wgf.bnn import BayesianRegressor, Settings, fit, saved
from wgf.bnn.fit import dev_likelihood
from wgf.bnn.rates import best_rate
from wgf.bnn.regressor import RATES, _quantile

QUICK = {"iterations": 60, "particles": 5, "hidden": (8,), "lr": 1e-2, "random_state": 0}


WEIGHTS = "a repeated row comes twice in its minibatches, a heavy one at once: the same posterior, found along another path"


@parametrize_with_checks(
    [BayesianRegressor(**QUICK | {"iterations": 300, "hidden": (20,)})],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def test_its_parameters_are_the_settings_of_a_fit_with_their_defaults_but_for_step_size_and_length():
    settings = {field.name: field.default for field in fields(Settings)}
    own = {"lr": RATES, "iterations": 10_000}
    assert {k: v for k, v in BayesianRegressor().get_params().items() if k in settings} == settings | own


def test_its_defaults_do_not_underfit():
    """Of steps and length: Friedman's first function with noise of deviation 1, of which Settings' own leave 2.2 of a deviation of 5."""
    x, y = make_friedman1(400, noise=1.0, random_state=0)
    small = {"particles": 5, "hidden": 20, "random_state": 0}
    model = BayesianRegressor(**small).fit(x[:300], y[:300])
    assert model.lr_ == 0.004
    papers = BayesianRegressor(**small, lr=Settings.lr, iterations=Settings.iterations).fit(x[:300], y[:300])
    error, theirs = (np.sqrt(((m.predict(x[300:]) - y[300:]) ** 2).mean()) for m in (model, papers))
    assert error < 0.9 * theirs


def test_of_several_step_sizes_the_one_with_the_best_dev_part_is_kept(toy):
    x, y = toy
    rates = (1e-5, 1e-2, 2e-2)
    order = np.random.RandomState(0).permutation(200)
    x_dev, y_dev = x[order[180:]], y[order[180:]]
    each = [BayesianRegressor(**QUICK | {"lr": lr}).fit(x, y) for lr in rates]
    assert [model.lr_ for model in each] == list(rates)
    best = max(each, key=lambda model: model.log_likelihood(x_dev, y_dev))
    assert best is not each[0]
    chosen = BayesianRegressor(**QUICK | {"lr": rates}).fit(x, y)
    assert chosen.lr_ == best.lr_
    np.testing.assert_allclose(chosen.predict(x), best.predict(x), rtol=1e-5)  # float32


def test_every_data_set_chooses_its_own_step_size(toy):
    x, y = (torch.from_numpy(np.stack([part, part[::-1]])) for part in (toy[0], toy[1][:, None]))
    y[0] = y[0].mean() + torch.randn(200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # nothing to learn
    weights, rates = torch.ones(2, 200, dtype=torch.float64), (1e-5, 3e-1)
    settings = Settings(iterations=200, particles=5, hidden=(40,), keep="last")
    found, chosen = best_rate(settings, rates, x, y, weights, [0, 1])
    each = [[fit(replace(settings, lr=lr), x[s : s + 1], y[s : s + 1], [s]) for lr in rates] for s in (0, 1)]
    assert sorted(chosen.tolist()) == list(rates)
    for s in (0, 1):
        dev = torch.cat([dev_likelihood(one, x[s : s + 1], y[s : s + 1], weights[s : s + 1]) for one in each[s]])
        best = dev.argmax()
        assert chosen[s] == rates[best]
        torch.testing.assert_close(found.particles[s], each[s][best].particles[0], rtol=1e-2, atol=1e-3)  # float32, 200 steps


def test_hidden_may_be_one_number(toy):
    one, other = (BayesianRegressor(**QUICK | {"hidden": hidden}).fit(*toy).predict(toy[0]) for hidden in (8, (8,)))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("x", [[[1.0], [2.0]], [[1.0], [1.0]]])
def test_two_rows_are_enough(x):
    model = BayesianRegressor(**QUICK).fit(x, [3.0, 5.0])
    mean, std = model.predict(x, return_std=True)
    assert np.isfinite(mean).all()
    assert (std > 0.0).all()


def test_rows_that_agree_but_for_one_are_fitted():
    x, y = np.ones((10, 1)), np.full(10, 2.0)
    y[3] = 5.0
    mean, std = BayesianRegressor(**QUICK).fit(x, y).predict(x, return_std=True)
    assert np.isfinite(mean).all()
    assert (std > 0.0).all()


@pytest.fixture(scope="module")
def toy():
    random = np.random.default_rng(0)
    x = random.uniform(-2.0, 2.0, (200, 2))
    return x, 50.0 + 5.0 * np.sin(2.0 * x[:, 0]) + 0.5 * random.standard_normal(200)


@pytest.fixture(scope="module")
def fitted(toy):
    return BayesianRegressor(**QUICK).fit(*toy)


def mixture(fitted, x):
    """Predictions f_m (M, n) and noise deviations (M, 1), of one output."""
    return fitted.fit_.predict(torch.from_numpy(x)[None])[0, ..., 0].numpy(), fitted.fit_.log_gamma[0].mul(-0.5).exp().numpy()


def test_mean_and_deviation_are_those_of_the_mixture(fitted, toy):
    f, std = mixture(fitted, toy[0])
    mean, deviation = fitted.predict(toy[0], return_std=True)
    np.testing.assert_allclose(mean, f.mean(0), rtol=1e-12)
    np.testing.assert_array_equal(fitted.predict(toy[0]), mean)
    np.testing.assert_allclose(deviation**2, (f**2 + std**2).mean(0) - f.mean(0) ** 2, rtol=1e-8)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_an_interval_leaves_half_of_the_rest_on_either_side(fitted, toy, level):
    f, std = mixture(fitted, toy[0])
    low, high = fitted.predict_interval(toy[0], level)
    np.testing.assert_allclose(norm.cdf((low - f) / std).mean(0), 0.5 - 0.5 * level, rtol=1e-9)
    np.testing.assert_allclose(norm.sf((high - f) / std).mean(0), 0.5 - 0.5 * level, rtol=1e-9)


@pytest.mark.parametrize(("level", "narrow"), [(0.25, 0.0), (0.75, 100.0)])
def test_a_quantile_is_found_between_particles_far_apart_and_in_noise_however_wide(level, narrow):
    """Two narrow normals at 0 and 100: each holds half, and a quarter lies below the middle of the first. And one of deviation 100."""
    mean, std = torch.tensor([[0.0, 7.0], [100.0, 7.0]]).double()[:, None], torch.tensor([[0.1, 100.0], [1.0, 100.0]]).double()[:, None]
    found = _quantile(mean, std, level)
    np.testing.assert_allclose(found.numpy(), [[narrow, 7.0 + 100.0 * norm.ppf(level)]], rtol=1e-9, atol=1e-9)


def test_samples_have_the_moments_of_the_predictive_distribution(fitted, toy):
    x, n = toy[0][:4], 40_000
    mean, deviation = fitted.predict(x, return_std=True)
    draws = fitted.sample(x, n, random_state=1)
    assert draws.shape == (4, n)
    np.testing.assert_allclose(draws.mean(1), mean, atol=4.0 * deviation.max() / np.sqrt(n))
    np.testing.assert_allclose(draws.std(1), deviation, rtol=4.0 / np.sqrt(n))  # a mixture's kurtosis stays below 3 here
    np.testing.assert_array_equal(fitted.sample(x, 3, random_state=1), fitted.sample(x, 3, random_state=1))


def test_the_log_likelihood_is_the_mean_log_density_of_the_mixture(fitted, toy):
    f, std = mixture(fitted, toy[0])
    expected = np.log(norm.pdf(toy[1], f, std).mean(0)).mean()
    assert fitted.log_likelihood(*toy) == pytest.approx(expected, rel=1e-10)


@pytest.fixture(scope="module")
def two(toy):
    """Two outputs of one network: an easy one, and a small one of mostly noise."""
    x, y = toy
    both = np.column_stack([y, 1e-2 * (x[:, 1] + np.random.default_rng(1).standard_normal(200))])
    return BayesianRegressor(**QUICK).fit(x, both), x, both


def test_each_output_has_its_own_mixture(two):
    model, x, y = two
    f = model.fit_.predict(torch.from_numpy(x)[None])[0].numpy()
    std = model.fit_.log_gamma[0].mul(-0.5).exp().numpy()[:, None]
    mean, deviation = model.predict(x, return_std=True)
    np.testing.assert_allclose(mean, f.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation**2, (f**2 + std**2).mean(0) - f.mean(0) ** 2, rtol=1e-6)
    low, high = model.predict_interval(x, 0.8)
    np.testing.assert_allclose(norm.cdf((low - f) / std).mean(0), np.full((200, 2), 0.1), rtol=1e-9)
    np.testing.assert_allclose(norm.cdf((high - f) / std).mean(0), np.full((200, 2), 0.9), rtol=1e-9)
    expected = np.log(norm.pdf(y, f, std).prod(-1).mean(0)).mean()
    assert model.log_likelihood(x, y) == pytest.approx(expected, rel=1e-10)
    draws = model.sample(x[:4], 40_000, random_state=1)
    assert draws.shape == (4, 2, 40_000)
    standard = (draws.mean(-1) - mean[:4]) / deviation[:4]
    np.testing.assert_allclose(standard, 0.0, atol=4.0 / np.sqrt(40_000))
    np.testing.assert_allclose(draws.std(-1) / deviation[:4], 1.0, atol=4.0 / np.sqrt(40_000))


def test_a_column_of_targets_is_one_output_with_an_axis(fitted, toy):
    column = BayesianRegressor(**QUICK).fit(toy[0], toy[1][:, None])
    assert column.sample(toy[0], 3).shape == (200, 1, 3)
    np.testing.assert_array_equal(column.predict(toy[0]), fitted.predict(toy[0])[:, None])


def test_rows_without_weight_are_left_out_and_none_is_all_ones(fitted, toy):
    x, y = toy
    weights = np.ones(250)
    weights[200:] = 0.0
    more = np.concatenate([x, 9.0 + x[:50]]), np.concatenate([y, 1e3 * y[:50]])
    np.testing.assert_array_equal(BayesianRegressor(**QUICK).fit(*more, weights).predict(x), fitted.predict(x))


def test_a_heavy_part_of_the_rows_draws_the_fit_to_it():
    """Two halves say y = 1 and y = 0 at every x: the posterior's mean is near the weighted mean."""
    x, y = np.tile(np.linspace(-1.0, 1.0, 100), 2)[:, None], np.repeat([1.0, 0.0], 100)
    mean = BayesianRegressor(**QUICK | {"iterations": 300}).fit(x, y, np.repeat([9.0, 1.0], 100)).predict(x)
    assert abs(mean.mean() - 0.9) < 0.1


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.zeros(200), "Sample weights must contain at least one non-zero number"),
        (np.eye(200)[0], "sample_weight leaves 1 rows with a weight above 0; a fit needs at least 2"),
        (-np.ones(200), "Negative values in data passed to `sample_weight`"),
        (np.ones(3), "sample_weight"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(toy, weights, says):
    with pytest.raises(ValueError, match=says):
        BayesianRegressor(**QUICK).fit(*toy, weights)


@pytest.mark.parametrize(
    ("rows", "y", "says"),
    [
        (200, np.zeros(1), r"y has shape \(1,\); allowed is \(200,\), for an X of 200 rows"),
        (3, np.zeros((3, 1)), r"y has shape \(3, 1\); allowed is \(3,\), for an X of 3 rows"),
    ],
)
def test_targets_of_another_shape_have_no_likelihood(fitted, toy, rows, y, says):
    with pytest.raises(ValueError, match=says):
        fitted.log_likelihood(toy[0][:rows], y)


def test_targets_of_fewer_outputs_have_no_likelihood(two):
    model, x, y = two
    with pytest.raises(ValueError, match=r"y has shape \(200,\); allowed is \(200, 2\), for an X of 200 rows"):
        model.log_likelihood(x, y[:, 0])


def test_the_dev_part_is_drawn_at_random_and_a_seed_repeats_a_fit(fitted, toy):
    again = BayesianRegressor(**QUICK).fit(*toy)
    np.testing.assert_array_equal(again.predict(toy[0]), fitted.predict(toy[0]))
    other = BayesianRegressor(**QUICK | {"random_state": 1}).fit(*toy)
    assert not torch.equal(other.fit_.x_mean, fitted.fit_.x_mean)


def test_saved_loaded_pickled_and_cloned(fitted, toy, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    loaded = BayesianRegressor.load(tmp_path / "model.safetensors")
    for other in (loaded, pickle.loads(pickle.dumps(fitted))):
        for a, b in zip(other.predict_interval(toy[0]), fitted.predict_interval(toy[0]), strict=True):
            np.testing.assert_array_equal(a, b)
    assert {**loaded.get_params(), "random_state": 0} == fitted.get_params()
    assert loaded.lr_ == 1e-2
    assert not hasattr(clone(loaded), "fit_")


def test_outputs_and_several_step_sizes_survive_a_file(two, tmp_path):
    _, x, y = two
    model = BayesianRegressor(**QUICK | {"lr": (1e-3, 1e-2), "hidden": 8}).fit(x, y)
    model.save(tmp_path / "model.safetensors")
    loaded = BayesianRegressor.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert {**loaded.get_params(), "random_state": 0} == model.get_params()
    assert loaded.lr_ == model.lr_


def test_stein_mixtures_predict_by_networks_drawn_from_them_and_survive_a_file(toy, tmp_path):
    x, y = toy
    model = BayesianRegressor(**QUICK | {"flow": "smi", "draws": 3, "iterations": 400, "hidden": 20}).fit(x, y)
    assert model.score(x, y) > 0.8
    assert model.fit_.particles.shape[1] == 15
    model.save(tmp_path / "model.safetensors")
    loaded = BayesianRegressor.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert {**loaded.get_params(), "random_state": 0} == model.get_params()
    facts, parts = saved.read(tmp_path / "model.safetensors")
    saved.write(tmp_path / "other", facts | {"parameters": facts["parameters"] | {"draws": 2}}, parts)
    with pytest.raises(ValueError, match=r"particles is torch.float32 of shape \(1, 15, \d+\); it must be torch.float32 of shape \(1, 10,"):
        BayesianRegressor.load(tmp_path / "other")


def test_names_of_columns_survive_a_file(toy, tmp_path):
    named = BayesianRegressor(**QUICK).fit(*toy)
    named.feature_names_in_ = np.array(["a", "b"], dtype=object)  # as a data frame would leave them
    named.save(tmp_path / "named.safetensors")
    assert BayesianRegressor.load(tmp_path / "named.safetensors").feature_names_in_.tolist() == ["a", "b"]


def test_what_is_not_a_saved_regressor_is_refused(tmp_path):
    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match=r"text cannot be read: "):
        BayesianRegressor.load(tmp_path / "text")
    with pytest.raises(ValueError, match=r"nowhere cannot be read: No such file or directory"):
        BayesianRegressor.load(tmp_path / "nowhere")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"other is not a saved BayesianRegressor of format wgf-bnn-3: its format is None"):
        BayesianRegressor.load(tmp_path / "other")
    save_file({"x": torch.zeros(1)}, tmp_path / "other", {"format": "wgf-bnn-3"})
    with pytest.raises(ValueError, match=r"other is damaged: its sha256 is not that of what it holds"):
        BayesianRegressor.load(tmp_path / "other")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A regressor of two outputs and its file's content."""
    x = np.linspace(-1.0, 1.0, 40).reshape(20, 2)
    model = BayesianRegressor(particles=2, iterations=20, hidden=2, random_state=0, batch=8).fit(x, np.stack([x[:, 0], 5.0 * x[:, 1]], 1))
    path = tmp_path_factory.mktemp("small") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


def test_every_flipped_bit_and_every_cut_of_a_file_is_noticed(small, tmp_path):
    path = tmp_path / "model.safetensors"
    draws = torch.randperm(8 * len(small), generator=torch.Generator().manual_seed(0))[:300].tolist()
    flips = [small[: b // 8] + bytes([small[b // 8] ^ 1 << b % 8]) + small[b // 8 + 1 :] for b in draws]
    for data in [*flips, *(small[:n] for n in (0, 1, 8, 200, len(small) - 1)), small + b"0", bytes(len(small))]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^\S*/model\.safetensors (is|cannot) [^\n]*$"):
            BayesianRegressor.load(path)


@pytest.mark.parametrize(
    ("about", "tensors", "words"),
    [
        ({"lr": None}, {}, "lr is None; it must be of type float"),
        ({"lr": 0.5}, {}, r"its step size is 0.5, which is none of its lr, \(0.001, 0.004\)"),
        ({"flat": 1}, {}, "flat is 1; it must be of type bool"),
        ({"flat": True}, {}, r"particles is torch.float32 of shape \(1, 2, 15\); it must be torch.float32 of shape \(1, 2, 11\)"),
        ({"n_features_in": 3}, {}, "particles is torch.float32 of shape"),
        ({"n_features_in": -1}, {}, "it must be torch.float32 of shape"),
        ({"feature_names_in": ["a"]}, {}, "it has 1 names for 2 features"),
        ({"feature_names_in": 7}, {}, "feature_names_in is 7; it must be of type list"),
        ({"parameters": {"hidden": [20000, 20000]}}, {}, "particles is torch.float32 of shape"),
        ({"parameters": {"hidden": [1] * 100_000}}, {}, "hidden has 100000 layers; allowed are at most 100"),
        ({"parameters": {"flow": "sgd"}}, {}, "flow is 'sgd'; choose from wgf"),
        ({"parameters": {"speed": 1}}, {}, "unexpected keyword argument 'speed'"),
        ({"parameters": {"particles": 3}}, {}, r"particles is torch.float32 of shape \(1, 2, 15\); it must be .*\(1, 3, 15\)"),
        ({"parameters": {"w2_scale": -1.0}}, {}, "w2_scale is -1.0; allowed"),
        ({"parameters": {"lr": []}}, {}, "lr is empty"),
        ({"parameters": []}, {}, "has no attribute 'items'"),
        ({}, {"x_std": -torch.ones(1, 1, 2, dtype=torch.float64)}, "x_std has a scale of -1 to -1; a scale is above 0 and finite"),
        ({}, {"y_std": torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)}, "y_std has a scale of 0 to 1"),
        ({}, {"particles": torch.full((1, 2, 15), torch.nan)}, "particles has a number that is not finite"),
        ({}, {"x_mean": torch.full((1, 1, 2), torch.inf, dtype=torch.float64)}, "x_mean has a number that is not finite"),
        ({}, {"log_gamma": torch.full((1, 2, 2), -1e5, dtype=torch.float64)}, "log_gamma has a scale of inf to inf"),
        ({}, {"log_gamma": torch.tensor([[[2.0, 0.0], [0.0, -1e5]]], dtype=torch.float64)}, "log_gamma has a scale of 0.367879 to inf"),
        ({}, {"log_gamma": torch.full((1, 2, 2), 1e5, dtype=torch.float64)}, "log_gamma has a scale of 0 to 0"),
        ({}, {"log_gamma": torch.zeros(1, 2, 2)}, r"log_gamma is torch.float32 of shape \(1, 2, 2\); it must be torch.float64"),
        ({}, {"y_mean": torch.zeros(1, 1, 10**6, dtype=torch.float64)}, "it must be"),
        ({}, {"log_gamma": torch.zeros(1, 2, 2, dtype=torch.bfloat16)}, "log_gamma is torch.bfloat16 of shape"),
        ({}, {"extra": torch.zeros(1)}, "unexpected keyword argument 'extra'"),
    ],
)
def test_a_file_with_a_right_sum_and_numbers_of_no_fit_is_refused(small, tmp_path, about, tensors, words):
    """What a person who knows the format could write."""
    (tmp_path / "good").write_bytes(small)
    facts, parts = saved.read(tmp_path / "good")
    if isinstance(about.get("parameters"), dict):
        about = {"parameters": facts["parameters"] | about["parameters"]}
    saved.write(tmp_path / "model", facts | about, parts | tensors)
    with pytest.raises(ValueError, match=rf"^\S*/model is not a saved BayesianRegressor: [^\n]*{words}"):
        BayesianRegressor.load(tmp_path / "model")


@pytest.mark.parametrize("text", ["[1]", "no", "[" * 10_000, "9" * 5000, ""])
def test_a_file_that_says_no_names_is_refused(small, tmp_path, text):
    (tmp_path / "good").write_bytes(small)
    tensors = saved.read(tmp_path / "good")[1]
    save_file(tensors, tmp_path / "model", {"format": saved.FORMAT, "about": text, "sha256": saved._digest(text, tensors)})
    with pytest.raises(ValueError, match=r"model is damaged: it does not say what it holds$"):
        BayesianRegressor.load(tmp_path / "model")


@pytest.mark.parametrize("missing", ["parameters", "n_features_in", "feature_names_in", "lr", "flat"])
def test_a_file_that_lacks_a_field_names_it(small, tmp_path, missing):
    (tmp_path / "model").write_bytes(small)
    facts, parts = saved.read(tmp_path / "model")
    del facts[missing]
    saved.write(tmp_path / "model", facts, parts)
    with pytest.raises(ValueError, match=rf"model is not a saved BayesianRegressor: it lacks '{missing}'"):
        BayesianRegressor.load(tmp_path / "model")


@pytest.mark.parametrize("missing", ["particles", "x_mean", "x_std", "y_mean", "y_std", "log_gamma"])
def test_a_file_that_lacks_a_tensor_is_refused(small, tmp_path, missing):
    (tmp_path / "model").write_bytes(small)
    facts, parts = saved.read(tmp_path / "model")
    del parts[missing]
    saved.write(tmp_path / "model", facts, parts)
    with pytest.raises(ValueError, match=rf"model is not a saved BayesianRegressor: .*'{missing}'"):
        BayesianRegressor.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        ([[1.0], [np.nan], [2.0]], [1.0, 2.0, 3.0], "Input X contains NaN"),
        ([[1.0], [3.0], [2.0]], [1.0, np.inf, 3.0], "Input y contains infinity"),
        ([[1.0]], [1.0], "Found array with 1 sample"),
        ([[1.0], [2.0], [3.0]], [4.0, 4.0, 4.0], "y is constant: every target is 4; a regression needs at least two different targets"),
        ([[1.0], [3.0], [2.0]], [[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]], "y is constant: every target is 4; a regression needs"),
        ([["red"], ["blue"], ["red"]], [1.0, 2.0, 3.0], "could not convert string to float"),
        ([[1.0], [2.0]], [1.0, 2.0, 3.0], "inconsistent numbers of samples"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(x, y, says):
    with pytest.raises(ValueError, match=says):
        BayesianRegressor(**QUICK).fit(x, y)


def test_settings_and_widths_are_checked(fitted, toy):
    with pytest.raises(ValueError, match="X has 3 features, but BayesianRegressor is expecting 2 features"):
        fitted.predict(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="flow is 'sgd'; choose from wgf"):
        BayesianRegressor(flow="sgd").fit(*toy)
    with pytest.raises(ValueError, match="lr is empty; give one step size or several"):
        BayesianRegressor(lr=()).fit(*toy)
    with pytest.raises(ValueError, match=r"lr is -0.1; allowed is a positive, finite number"):
        BayesianRegressor(lr=(0.1, -0.1)).fit(*toy)
    for level in (90, 1.5, 1.0, 0.0):
        with pytest.raises(ValueError, match=rf"level is {level}; allowed is a number between 0 and 1"):
            fitted.predict_interval(toy[0], level)


def test_constant_columns_and_tiny_target_scales_do_no_harm(toy):
    x = np.column_stack([toy[0], np.full(200, 288.0)])
    plain, tiny = BayesianRegressor(**QUICK).fit(x, toy[1]), BayesianRegressor(**QUICK).fit(x, 0.95 + 1e-6 * toy[1])
    for a, b in zip(tiny.predict_interval(x), plain.predict_interval(x), strict=True):
        np.testing.assert_allclose(a, 0.95 + 1e-6 * b, rtol=1e-9)
    assert tiny.log_likelihood(x, 0.95 + 1e-6 * toy[1]) == pytest.approx(plain.log_likelihood(x, toy[1]) - np.log(1e-6), rel=1e-4)


def test_it_stands_in_a_pipeline(toy):
    assert make_pipeline(StandardScaler(), BayesianRegressor(**QUICK | {"iterations": 400})).fit(*toy).score(*toy) > 0.9


def test_a_bar_is_shown_where_it_is_asked_for(toy, capsys):
    BayesianRegressor(**QUICK | {"verbose": 1}).fit(*toy)
    assert "wgf, 5 particles" in capsys.readouterr().out
    BayesianRegressor(**QUICK).fit(*toy)
    assert capsys.readouterr().out == ""
