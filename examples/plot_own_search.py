"""
A search of one's own
=====================

Any search can run the stages of :class:`~sklearn_iis.IISSearchCV`. Here it is SciPy's
differential evolution, for a support vector machine on scanned digits of 4 and 8
pixels.
"""

# %%
# A search is a class with one method. It proposes candidates until the budget is spent;
# if it stops before, the rest of the budget goes to candidates at random. Candidates
# are in codes: numbers between `low` and `high` of each of `space.dimensions`, ints if
# it is discrete. `evaluate` measures them, each once, and returns their scores, NaN for
# those that failed.

from itertools import cycle, islice

import matplotlib.pyplot as plt
import numpy as np
from rich import print
from scipy.optimize import differential_evolution
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.searches import BaseStageSearchCV


class DifferentialEvolutionSearchCV(BaseStageSearchCV):
    """Differential evolution (Storn and Price 1997), a generation at a time."""

    def _search(self, evaluate, random_state):
        space, seeds = self.space, self.seeds or []
        size = max(5, len(seeds), self.n_iter // 5)
        drawn = space.sample(size - len(seeds), random_state=random_state)
        # A small space does not hold as many.
        population = list(islice(cycle(seeds + drawn), size))

        def decode(point):
            codes = zip(space.dimensions.items(), point, strict=True)
            return {name: dimension.clip(code) for (name, dimension), code in codes}

        def loss(points):
            # At first these are the population, but for rounding errors.
            first = not evaluate.candidates
            scores = evaluate(population if first else map(decode, points.T))
            return -np.nan_to_num(scores, nan=-1e100)

        differential_evolution(
            loss,
            bounds=[(d.low, d.high) for d in space.dimensions.values()],
            integrality=[np.isfinite(d.n_levels) for d in space.dimensions.values()],
            init=[list(space.complete(codes).values()) for codes in population],
            maxiter=self.n_iter,
            callback=lambda intermediate_result: not evaluate.remaining,
            vectorized=True,
            updating="deferred",
            polish=False,
            tol=0,
            rng=random_state,
        )


# %%
# It is used like those that come with the package. Settings of its own would be
# parameters of its constructor, and come from `search_params`.

digits = load_digits()
search = IISSearchCV(
    make_pipeline(
        ImageResizer(),
        FunctionTransformer(lambda images: images.reshape(len(images), -1)),
        Normalizer(),  # so that distances do not depend on the size
        SVC(),
    ),
    {"svc__C": loguniform(1e-2, 1e4), "svc__gamma": loguniform(1e-4, 1e2)},
    sizes=(4, 8),
    n_iter=(40, 20),
    search=DifferentialEvolutionSearchCV,
    cv=StratifiedShuffleSplit(1, test_size=0.5, random_state=0),
    random_state=0,
)
search.fit(digits.images[:1000], digits.target[:1000])
accuracy = search.score(digits.images[1000:], digits.target[1000:])
print("Best hyperparameters:", search.best_params_)
print(f"Validation accuracy: {search.best_score_:.3f}, test accuracy: {accuracy:.3f}")

# %%
# All candidates of both stages. The second one searches where the first one found
# good ones.

results = search.cv_results_
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for size, marker in zip(search.sizes_, "os", strict=True):
    rows = results["size"] == size
    points = axes.scatter(
        results["param_svc__C"][rows].astype(float),
        results["param_svc__gamma"][rows].astype(float),
        c=results["mean_test_score"][rows],
        vmin=0,
        vmax=1,
        marker=marker,
        edgecolor="black",
        label=f"{size} px",
    )
axes.set(xscale="log", yscale="log", xlabel="C", ylabel="gamma")
axes.legend()
figure.colorbar(points, label="validation accuracy")
figure.savefig("own_search.png", dpi=120)
print("The figure is in own_search.png")
