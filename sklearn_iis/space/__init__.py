"""The search space: hyperparameters, their codes, and candidates."""

from sklearn_iis.space._default import default_space
from sklearn_iis.space._dimension import (
    Continuous,
    Discrete,
    is_log,
    is_numeric,
    make_dimension,
)
from sklearn_iis.space._space import (
    Candidate,
    PerLayer,
    SearchSpace,
    as_key,
    distinct,
)

__all__ = [
    "Candidate",
    "Continuous",
    "Discrete",
    "PerLayer",
    "SearchSpace",
    "as_key",
    "default_space",
    "distinct",
    "is_log",
    "is_numeric",
    "make_dimension",
]
