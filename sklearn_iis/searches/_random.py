"""Random search: RandomizedSearchCV."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from sklearn.model_selection import RandomizedSearchCV

from sklearn_iis.searches._base import Evaluator, Search
from sklearn_iis.space import Continuous, Discrete


@dataclass(eq=False, repr=False)
class StageRandomizedSearchCV(Search, RandomizedSearchCV):
    """Random search: each candidate is drawn from the priors when it is needed.

    See :class:`Search` for the parameters.
    """

    @property
    def param_distributions(self) -> dict[str, Continuous | Discrete]:
        """The priors, as :class:`~sklearn.model_selection.RandomizedSearchCV` wants."""
        return self.space.dimensions

    def run(self, evaluate: Evaluator, random_state: np.random.RandomState) -> None:
        """Evaluate the initial candidates, and then some at random."""
        drawn = self.space.draw(random_state=random_state)
        evaluate(chain(self.initial_candidates or [], drawn))
