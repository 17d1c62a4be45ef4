"""
Begin with what is known, and rule out what is not allowed
==========================================================

A search need not begin with nothing: it can have candidates of your own evaluated
first, and the best ones of an earlier search. And it can leave out candidates that
nobody could use, such as networks that are too large.
"""

# %%
# An earlier search, with few epochs and a narrow range of learning rates.

import matplotlib.pyplot as plt
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit

from sklearn_iis import CNNClassifier, IISSearchCV, best_candidates

digits = load_digits()
X, y = digits.images[:500], digits.target[:500]
space = {
    "learning_rate": loguniform(1e-3, 1e-1),
    "n_filters": randint(4, 49),
    "n_conv_layers": [1, 2, 3],
}
split = StratifiedShuffleSplit(1, test_size=0.4, random_state=0)
earlier = IISSearchCV(
    CNNClassifier(max_epochs=3, random_state=0),
    space,
    n_iter=10,
    cv=split,
    random_state=0,
).fit(X, y)

# %%
# The new search has a wider range, and allows networks with at most 8000 weights in
# their convolutions. `best_candidates` are moved to the new space, and evaluated anew,
# as scores with other epochs would not compare. Whoever is not allowed is never
# trained, and costs nothing of the budget.


def is_small(params):
    filters, n_layers = params["n_filters"], params["n_conv_layers"]
    return 9 * filters + 9 * filters**2 * (n_layers - 1) <= 8000


wider = space | {"learning_rate": loguniform(1e-3, 1)}
known = [c for c in best_candidates(earlier, 6, space=wider) if is_small(c)][:2]
search = IISSearchCV(
    CNNClassifier(max_epochs=6, random_state=0),
    wider,
    initial_candidates=[{"n_filters": 16, "n_conv_layers": 2}, *known],
    constraint=is_small,
    n_iter=15,
    cv=split,
    random_state=0,
).fit(X, y)
print("evaluated first:")
for params in search.cv_results_["params"][: 1 + len(known)]:
    print("   ", params)
print(f"best: {search.best_params_}, score {search.best_score_:.3f}")

# %%
# All candidates of the new search. The first ones are circled; the line is the largest
# number of filters that is allowed.

results = search.cv_results_
layers = results["param_n_conv_layers"].astype(int)
filters = results["param_n_filters"].astype(int)
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
points = ax.scatter(layers, filters, c=results["mean_test_score"])
n_first = 1 + len(known)
ax.scatter(layers[:n_first], filters[:n_first], s=120, facecolor="none", edgecolor="r")
ax.step([0.5, 1.5, 2.5, 3.5], [48, 48, 29, 20], "k:", where="pre")
ax.set(xticks=[1, 2, 3], xlabel="convolutional layers", ylabel="filters of each")
figure.colorbar(points, label="validation accuracy")
plt.show()
