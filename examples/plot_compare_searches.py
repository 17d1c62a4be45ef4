"""
Compare searches
================

Which search finds good candidates soonest? All of them share one interface, so that
another one is a matter of one word.

Needs the extra ``tpe``: in a clone, ``pip install '.[tpe]'``.
"""

# %%
# Four searches, each with 30 candidates, for a support vector machine on scanned
# digits. All are scored on the same split.

import matplotlib.pyplot as plt
from rich import print
from rich.table import Table
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV
from sklearn_iis.inspection import ConvergenceDisplay

X, y = load_digits(return_X_y=True)
searches = {
    name: IISSearchCV(
        SVC(kernel="sigmoid"),
        {
            "C": loguniform(1e-2, 1e6),
            "gamma": loguniform(1e-8, 1),
            "tol": loguniform(1e-5, 1e-1),
        },
        search=name,
        n_iter=30,
        cv=StratifiedShuffleSplit(1, test_size=0.5, random_state=0),
        random_state=1,
    ).fit(X[:600], y[:600])
    for name in ("random", "tpe", "genetic", "bayes")
}

# %%
# The best score after each candidate. This is one run of each, and another
# `random_state` may turn the order round: :doc:`searches </searches>` has 20 runs of
# each on formulas.

table = Table("search", "best after 10", "after 20", "after 30")
display = ConvergenceDisplay.from_search(searches, as_error=True)
for curve in display.curves:
    table.add_row(curve.name, *(f"{curve.best[n - 1]:.3f}" for n in (10, 20, 30)))
print(table)
display.axes_[0].set_yscale("log")
display.axes_[1].set_yscale("log")
display.figure_.set_size_inches(8, 4)
plt.show()
