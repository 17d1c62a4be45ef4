"""Which hyperparameters matter, at which size, and pictures of a search."""

from sklearn_iis.inspection._convergence import ConvergenceDisplay
from sklearn_iis.inspection._functional_anova import functional_anova
from sklearn_iis.inspection._importance import (
    ImportanceResult,
    hyperparameter_importance,
    hyperparameter_marginal,
)
from sklearn_iis.inspection._importance_display import ImportanceDisplay
from sklearn_iis.inspection._marginal_display import (
    MarginalDisplay,
    PairMarginalDisplay,
)
from sklearn_iis.inspection._ranges import RangesDisplay
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
