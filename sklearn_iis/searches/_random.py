"""Random search: RandomizedSearchCV."""

import numpy as np
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV

from sklearn_iis.searches._base import BaseStageSearchCV, Evaluation


class StageRandomizedSearchCV(BaseStageSearchCV, RandomizedSearchCV):
    """Random search, all candidates at once.

    See :class:`BaseStageSearchCV` for the parameters.
    """

    @property
    def param_distributions(self):
        """What :class:`~sklearn.model_selection.RandomizedSearchCV` draws from."""
        return self.space.dimensions

    def _search(
        self, evaluate: Evaluation, random_state: np.random.RandomState
    ) -> None:
        seeds = self.seeds or []
        sampler = ParameterSampler(
            self.param_distributions, evaluate.remaining, random_state=random_state
        )
        evaluate(seeds + list(sampler))
