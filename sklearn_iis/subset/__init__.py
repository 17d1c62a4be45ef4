"""Estimators that are fitted to a part of their training samples."""

from sklearn_iis.subset._subset_estimator import SubsetEstimator

__all__ = ["SubsetEstimator"]
