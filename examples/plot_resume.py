"""
Resume a search after an interrupt
==================================

With `storage`, each evaluation is kept in a file as soon as it is finished. Whatever
ends the search (Ctrl-C, a crash, a machine that is switched off), the same call goes
on where it stopped, and finds what a search without an interrupt would have found.

Needs the extra ``storage``: in a clone, ``pip install '.[storage]'``.
"""

# %%
# A storage is the path of a journal, as here, or the url of a database, such as
# ``"sqlite:///search.db"``. So that the example is the same each time, the score itself
# interrupts the search, at the 11th evaluation.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier

from sklearn_iis import IISSearchCV

X, y = load_digits(return_X_y=True)
folder = TemporaryDirectory()


n_scored = 0


def score(estimator, X, y):
    global n_scored
    n_scored += 1
    if n_scored == 11:  # somebody presses Ctrl-C
        raise KeyboardInterrupt
    return estimator.score(X, y)


def make_search(**params):
    return IISSearchCV(
        HistGradientBoostingClassifier(max_iter=10, random_state=0),
        {
            "learning_rate": loguniform(1e-3, 1),
            "l2_regularization": loguniform(1e-6, 10),
        },
        n_iter=12,
        scoring=score,
        cv=2,
        random_state=0,
        **params,
    )


journal = Path(folder.name, "search.journal")
search = make_search(storage=journal, study_name="boosting")

# %%
# The candidates that were finished before the interrupt are in `cv_results_`.

try:
    search.fit(X[:500], y[:500])
except KeyboardInterrupt:
    n_finished = len(search.cv_results_["params"])
    print(f"interrupted after {n_finished} of 12 candidates")

# %%
# The same call again evaluates only what is missing. With a larger `n_iter` it goes on
# from there.

resumed = make_search(storage=journal, study_name="boosting").fit(X[:500], y[:500])
never_interrupted = make_search().fit(X[:500], y[:500])
scores = resumed.cv_results_["mean_test_score"]
print(
    "the same scores:",
    np.array_equal(scores, never_interrupted.cv_results_["mean_test_score"]),
)

# %%
# Which candidate comes from which call.

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
calls = {"first call": slice(n_finished), "second call": slice(n_finished, None)}
for name, rows in calls.items():
    ax.plot(np.arange(1, 13)[rows], scores[rows], "o", label=name)
ax.set(xlabel="candidate", ylabel="validation accuracy")
ax.legend()
folder.cleanup()
plt.show()
