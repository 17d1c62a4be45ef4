"""
Which hyperparameters matter
============================

Functional ANOVA says which share of the differences between candidates each
hyperparameter explains, and each pair of them. It works on any search that is fitted;
random search is the safest to analyse, as it covers the space.
"""

# %%
# A support vector machine with four hyperparameters, on scanned digits of 4 and 8
# pixels.

import matplotlib.pyplot as plt
from scipy.stats import loguniform, uniform
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV, ImageResizer
from sklearn_iis.inspection import (
    ImportanceDisplay,
    MarginalDisplay,
    PairMarginalDisplay,
    hyperparameter_importance,
)

digits = load_digits()
pipe = Pipeline(
    [
        ("resize", ImageResizer()),
        (
            "flatten",
            FunctionTransformer(lambda images: images.reshape(len(images), -1)),
        ),
        ("normalize", Normalizer()),
        ("svc", SVC(kernel="poly")),
    ]
)
search = IISSearchCV(
    pipe,
    {
        "svc__C": loguniform(1e-3, 1e3),
        "svc__gamma": loguniform(1e-3, 1e2),
        "svc__degree": [2, 3, 4],
        "svc__coef0": uniform(0, 2),
    },
    sizes=(4, 8),
    n_iter=(100, 60),
    cv=StratifiedShuffleSplit(1, test_size=0.5, random_state=0),
    random_state=0,
).fit(digits.images[:600], digits.target[:600])

# %%
# The numbers as a table, for each size and for both together. `oob_score` says how much
# of the differences the model behind them can predict: near 0, they are worth nothing.

importance = hyperparameter_importance(search, random_state=0)
table = importance.to_frame()
print(table[table["importance"] > 0.05].to_string(index=False))

# %%
# The same as bars. At 8 pixels the ranges are narrower, so that what mattered at 4 may
# not do so any more.

ImportanceDisplay.from_search(search, random_state=0)

# %%
# How the score depends on one hyperparameter, averaged over all others, and on the pair
# that matters most.

MarginalDisplay.from_search(search, "svc__gamma", random_state=0)
PairMarginalDisplay.from_search(search, ("svc__C", "svc__gamma"), random_state=0)
plt.show()
