"""
A search of one's own
=====================

Any search can run the stages of :class:`~sklearn_iis.IISSearchCV`. Here it is a kind of
differential evolution, for a support vector machine on scanned digits of 4 and 8
pixels.
"""

# %%
# A search is a class with two methods: `ask` proposes a candidate, or None for one at
# random, and `tell` learns the score of one. Candidates are in codes: numbers between
# `low` and `high` of each of `space.dimensions`, which `space.project` moves into the
# ranges. Each is evaluated once, the best ones of the size before come first, and the
# number of candidates, workers, storages and time limits are not its concern.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.searches import Sampler


class DifferentialEvolution(Sampler):
    """Moves a good candidate by the difference of two others (Storn and Price 1997)."""

    def __init__(self, space, *, random_state, population_size=8, scale=0.7):
        self.space = space
        self.random_state = random_state
        self.population_size = population_size
        self.scale = scale
        self.population = []  # the best candidates, with their scores

    def ask(self):
        if len(self.population) < max(3, self.population_size):
            return None
        chosen = self.random_state.permutation(len(self.population))[:3]
        base, one, other = (self.space.complete(self.population[i][1]) for i in chosen)
        return self.space.project(
            {name: base[name] + self.scale * (one[name] - other[name]) for name in base}
        )

    def tell(self, candidate, score):
        if not np.isnan(score):
            self.population.append((score, candidate))
            self.population.sort(key=lambda scored: -scored[0])
            del self.population[self.population_size :]


# %%
# It is used like those that come with the package; `search_params` are further
# arguments of the class. Images are normalised, so that distances do not depend on the
# size.

digits = load_digits()
flatten = FunctionTransformer(lambda images: images.reshape(len(images), -1))
search = IISSearchCV(
    make_pipeline(ImageResizer(), flatten, Normalizer(), SVC()),
    {"svc__C": loguniform(1e-2, 1e4), "svc__gamma": loguniform(1e-4, 1e2)},
    sizes=(4, 8),
    n_iter=(40, 20),
    search=DifferentialEvolution,
    search_params={"population_size": 10},
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
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for size, marker in zip(search.sizes_, "os", strict=True):
    rows = results["size"] == size
    C, gamma = (results[f"param_svc__{name}"][rows] for name in ("C", "gamma"))
    scores = results["mean_test_score"][rows]
    points = ax.scatter(C, gamma, c=scores, vmin=0, marker=marker, label=f"{size} px")
ax.set(xscale="log", yscale="log", xlabel="C", ylabel="gamma")
ax.legend()
figure.colorbar(points, label="validation accuracy")
figure.savefig("own_search.png", dpi=120)
print("The figure is in own_search.png")
