"""Which hyperparameters matter, at which size, and pictures of a search."""

from sklearn_iis.inspection._functional_anova import functional_anova
from sklearn_iis.inspection._importance import (
    ImportanceResult,
    hyperparameter_importance,
    hyperparameter_marginal,
)

__all__ = [
    "ImportanceResult",
    "functional_anova",
    "hyperparameter_importance",
    "hyperparameter_marginal",
]
