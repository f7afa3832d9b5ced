"""The estimator as a scikit-learn user meets it, and its predictive distribution against draws."""

import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from wgf.bnn import BayesianRegressor, Settings

QUICK = {"iterations": 60, "particles": 5, "hidden": (8,), "lr": 1e-2, "random_state": 0}


@parametrize_with_checks([BayesianRegressor(**QUICK | {"iterations": 300, "hidden": (20,)})])
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def test_its_parameters_are_the_settings_of_a_fit_with_their_defaults():
    settings = {field.name: field.default for field in fields(Settings)}
    assert {k: v for k, v in BayesianRegressor().get_params().items() if k in settings} == settings


@pytest.fixture(scope="module")
def toy():
    random = np.random.default_rng(0)
    x = random.uniform(-2.0, 2.0, (200, 2))
    return x, 50.0 + 5.0 * np.sin(2.0 * x[:, 0]) + 0.5 * random.standard_normal(200)


@pytest.fixture(scope="module")
def fitted(toy):
    return BayesianRegressor(**QUICK).fit(*toy)


def mixture(fitted, x):
    """Predictions f_m (M, n) and noise deviations (M, 1)."""
    return fitted.fit_.predict(torch.from_numpy(x)[None])[0].numpy(), fitted.fit_.log_gamma[0].mul(-0.5).exp().numpy()[:, None]


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
    assert not hasattr(clone(loaded), "fit_")


def test_names_of_columns_survive_a_file(toy, tmp_path):
    named = BayesianRegressor(**QUICK).fit(*toy)
    named.feature_names_in_ = np.array(["a", "b"], dtype=object)  # as a data frame would leave them
    named.save(tmp_path / "named.safetensors")
    assert BayesianRegressor.load(tmp_path / "named.safetensors").feature_names_in_.tolist() == ["a", "b"]


def test_what_is_not_a_saved_regressor_is_refused(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match=r"text cannot be read: "):
        BayesianRegressor.load(tmp_path / "text")
    with pytest.raises(ValueError, match=r"nowhere cannot be read: "):
        BayesianRegressor.load(tmp_path / "nowhere")
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"other is not a saved BayesianRegressor of format wgf-bnn-1: its format is None"):
        BayesianRegressor.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        ([[1.0], [np.nan], [2.0]], [1.0, 2.0, 3.0], "Input X contains NaN"),
        ([[1.0], [3.0], [2.0]], [1.0, np.inf, 3.0], "Input y contains infinity"),
        ([[1.0]], [1.0], "Found array with 1 sample"),
        ([[1.0], [2.0], [3.0]], [4.0, 4.0, 4.0], "y is constant: every target is 4; a regression needs at least two different targets"),
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
    with pytest.raises(ValueError, match=r"level is 90; allowed is a number between 0 and 1"):
        fitted.predict_interval(toy[0], 90)


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
