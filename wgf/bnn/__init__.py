"""Bayesian neural regression by particle flow: the posterior's score, fits on stacks of data sets, and an estimator for scikit-learn."""

from wgf.bnn.fit import Fit, Settings, fit
from wgf.bnn.regressor import BayesianRegressor

__all__ = ["BayesianRegressor", "Fit", "Settings", "fit"]
