"""
Deliver an average of what was trained
======================================

When a search ends, the best candidate is fitted once more on all data. With
`n_averaged`, nothing is fitted: the model is the average of the best candidates, as
they were trained for their scores, one member for each candidate and split.
"""

# %%
# The same search three times, of small networks for scanned digits, with 3 splits.

import matplotlib.pyplot as plt
from rich import print
from rich.table import Table
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from sklearn_iis import CNNClassifier, IISSearchCV

digits = load_digits()
X_train, X_test = digits.images[:300], digits.images[300:]
y_train, y_test = digits.target[:300], digits.target[300:]
searches = {
    n_averaged: IISSearchCV(
        CNNClassifier(max_epochs=4, random_state=0),
        {"learning_rate": loguniform(1e-2, 0.5), "n_filters": randint(4, 25)},
        n_iter=6,
        cv=3,
        n_averaged=n_averaged,
        random_state=0,
    ).fit(X_train, y_train)
    for n_averaged in (None, 1, 3)
}

# %%
# Members have seen two thirds of the training images each, but their errors differ, and
# an average evens them out. A prediction takes as long as those of all members.

table = Table("n_averaged", "members", "seconds at last", "test accuracy", "log loss")
losses = []
for n_averaged, search in searches.items():
    members = getattr(search.best_estimator_, "estimators_", [search.best_estimator_])
    losses.append(log_loss(y_test, search.predict_proba(X_test)))
    table.add_row(
        f"{n_averaged}",
        f"{len(members)}",
        f"{search.refit_time_:.2f}",
        f"{search.score(X_test, y_test):.3f}",
        f"{losses[-1]:.3f}",
    )
print(table)

# %%
# The log loss also counts how sure a model is when it is wrong.

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.bar([str(n_averaged) for n_averaged in searches], losses)
ax.set(xlabel="n_averaged", ylabel="log loss on the test images")
plt.show()
