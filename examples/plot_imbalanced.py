"""
Rare classes, and a score of your own
=====================================

One image of ten is an 8, and to miss an 8 is dear. The accuracy knows nothing of
that. A search goes by whatever scorer it is given, and can have the weights of the
classes among its hyperparameters.
"""

# %%
# A missed 8 costs 10, a false alarm costs 1. The scorer is the mean cost, negative, as
# a greater score is better. Of several metrics, `refit` names the one that guides the
# search; the others are only told.

import matplotlib.pyplot as plt
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, make_scorer
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

from sklearn_iis import CNNClassifier, IISSearchCV

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target == 8, train_size=600, random_state=0
)


def mean_cost(y_true, y_pred):
    missed, false_alarm = y_true & ~y_pred, ~y_true & y_pred
    return (10 * missed + false_alarm).mean()


def search(metric):
    return IISSearchCV(
        CNNClassifier(max_epochs=3, n_conv_layers=2, random_state=0),
        {
            "learning_rate": loguniform(1e-3, 0.5),
            "n_filters": randint(4, 17),
            "class_weight": [None, "balanced", {False: 1, True: 20}],
        },
        n_iter=16,
        scoring={
            "cost": make_scorer(mean_cost, greater_is_better=False),
            "accuracy": "accuracy",
        },
        refit=metric,
        cv=StratifiedShuffleSplit(2, test_size=0.4, random_state=0),
        random_state=0,
    ).fit(X_train, y_train)


# %%
# What the two searches deliver. `StratifiedShuffleSplit` keeps the share of the rare
# class in each split.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for ax, metric in zip(axes, ("accuracy", "cost"), strict=True):
    fitted = search(metric)
    predicted = fitted.predict(X_test)
    print(f"best by {metric}: class_weight={fitted.best_params_['class_weight']}")
    print(f"    mean cost on the test images {mean_cost(y_test, predicted):.3f}")
    ConfusionMatrixDisplay(
        confusion_matrix(y_test, predicted), display_labels=["no 8", "8"]
    ).plot(ax=ax, colorbar=False)
    ax.set_title(f"best by {metric}")
plt.show()
