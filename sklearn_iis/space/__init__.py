"""The search space: hyperparameters, their codes, and candidates."""

from sklearn_iis.space._condition import Condition, OnlyIf
from sklearn_iis.space._continuous import Continuous
from sklearn_iis.space._default import default_space
from sklearn_iis.space._dimension import (
    Discrete,
    is_log,
    is_numeric,
    make_dimension,
)
from sklearn_iis.space._earlier import best_candidates
from sklearn_iis.space._parameter import Parameter, PerLayer
from sklearn_iis.space._partial import fill_candidates
from sklearn_iis.space._rounded import Rounded, Stepped
from sklearn_iis.space._space import Candidate, SearchSpace, as_key, distinct

__all__ = [
    "Candidate",
    "Condition",
    "Continuous",
    "Discrete",
    "OnlyIf",
    "Parameter",
    "PerLayer",
    "Rounded",
    "SearchSpace",
    "Stepped",
    "as_key",
    "best_candidates",
    "default_space",
    "distinct",
    "fill_candidates",
    "is_log",
    "is_numeric",
    "make_dimension",
]
