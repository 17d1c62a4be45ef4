"""
How good is the model really? Nested cross-validation
=====================================================

`best_score_` is the highest of many scores, so that part of it is luck. A search is an
estimator: cross-validate it as a whole, and each outer split scores what it delivers on
data that it has not seen.
"""

# %%
# Few data and many candidates, so that luck has its chance: 120 digits, and 60
# candidates of a decision tree, each scored on a single split.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.model_selection import (
    ShuffleSplit,
    StratifiedShuffleSplit,
    cross_validate,
)
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import IISSearchCV

X, y = load_digits(return_X_y=True)
search = IISSearchCV(
    DecisionTreeClassifier(random_state=0),
    {
        "max_depth": randint(2, 20),
        "min_samples_leaf": randint(1, 10),
        "ccp_alpha": loguniform(1e-4, 0.1),
        "max_features": randint(5, 65),
    },
    n_iter=60,
    cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=0),
    random_state=0,
)
outer = ShuffleSplit(6, train_size=120, random_state=0)
results = cross_validate(search, X, y, cv=outer, return_estimator=True)
promised = np.array([fitted.best_score_ for fitted in results["estimator"]])
kept = results["test_score"]
print(f"promised by best_score_: {promised.mean():.3f} +- {promised.std(ddof=1):.3f}")
print(f"on unseen data:          {kept.mean():.3f} +- {kept.std(ddof=1):.3f}")

# %%
# The outer splits, and how often each value was chosen: if it differs from split to
# split, the search could not tell the difference.

depths = [fitted.best_params_["max_depth"] for fitted in results["estimator"]]
print("depths that were chosen:", sorted(depths))
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
splits = np.arange(1, len(kept) + 1)
ax.plot(splits, promised, "o", label="promised by best_score_")
ax.plot(splits, kept, "s", label="on unseen data")
ax.vlines(splits, kept, promised, color="grey", linewidth=1)
ax.set(xlabel="outer split", ylabel="accuracy", xticks=splits)
ax.legend()
plt.show()
