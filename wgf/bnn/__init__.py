"""Bayesian neural regression by particle flow: the posterior's score, fits on stacks of data sets, and an estimator for scikit-learn."""

from wgf.bnn.fit import Fit, fit
from wgf.bnn.regressor import BayesianRegressor
from wgf.bnn.settings import Settings

__all__ = ["BayesianRegressor", "Fit", "Settings", "fit"]
