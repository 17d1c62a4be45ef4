"""Which hyperparameters matter, at which size, and pictures of a search."""

from sklearn_iis.inspection.anova._functional_anova import functional_anova
from sklearn_iis.inspection.anova._importance import (
    ImportanceResult,
    hyperparameter_importance,
    hyperparameter_marginal,
)
from sklearn_iis.inspection.anova._ranges import RangesDisplay
from sklearn_iis.inspection.displays._convergence import ConvergenceDisplay
from sklearn_iis.inspection.displays._importance_display import ImportanceDisplay
from sklearn_iis.inspection.displays._marginal_display import (
    MarginalDisplay,
    PairMarginalDisplay,
)
from sklearn_iis.inspection.report import write_report

__all__ = [
    "ConvergenceDisplay",
    "ImportanceDisplay",
    "ImportanceResult",
    "MarginalDisplay",
    "PairMarginalDisplay",
    "RangesDisplay",
    "functional_anova",
    "hyperparameter_importance",
    "hyperparameter_marginal",
    "write_report",
]
