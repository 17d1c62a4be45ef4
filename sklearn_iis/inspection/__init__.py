"""Inspecting a fitted search: importance of hyperparameters, displays, a report."""

from sklearn_iis.inspection._evaluation import Evaluation, evaluate_model
from sklearn_iis.inspection._importance import (
    ImportanceResult,
    hyperparameter_importance,
    hyperparameter_marginal,
)
from sklearn_iis.inspection.anova._functional_anova import functional_anova
from sklearn_iis.inspection.displays._convergence import ConvergenceDisplay
from sklearn_iis.inspection.displays._importance import ImportanceDisplay
from sklearn_iis.inspection.displays._marginal import (
    MarginalDisplay,
    PairMarginalDisplay,
)
from sklearn_iis.inspection.displays._ranges import RangesDisplay
from sklearn_iis.inspection.report import write_report

__all__ = [
    "ConvergenceDisplay",
    "Evaluation",
    "ImportanceDisplay",
    "ImportanceResult",
    "MarginalDisplay",
    "PairMarginalDisplay",
    "RangesDisplay",
    "evaluate_model",
    "functional_anova",
    "hyperparameter_importance",
    "hyperparameter_marginal",
    "write_report",
]
