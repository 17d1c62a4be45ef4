"""
Search at 32, 48 and 64 pixels
==============================

Hyperparameters of a convolutional network are searched on small images first; the good
region of the space and the best candidates are handed on to the next size.
"""

# %%
# Images of shapes, made on the spot, so that nothing has to be downloaded. One class is
# striped and the other one plaid, which small images hardly show.

import matplotlib.pyplot as plt
from rich import print
from rich.table import Table
from scipy.stats import loguniform, randint
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, PerLayer
from sklearn_iis.datasets import make_shapes
from sklearn_iis.inspection import write_report

X, y = make_shapes(700, size=64, n_classes=2, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=300, stratify=y, random_state=0
)

# %%
# The space is what :class:`~sklearn.model_selection.RandomizedSearchCV` takes. With
# `PerLayer` there is a value for each layer, as many as another hyperparameter says.

cnn = CNNClassifier(max_epochs=10, random_state=0)
search = IISSearchCV(
    Pipeline([("resize", ImageResizer()), ("cnn", cnn)]),
    {
        "cnn__learning_rate": loguniform(1e-2, 0.5),
        "cnn__n_conv_layers": randint(3, 5),
        "cnn__n_filters": PerLayer(randint(8, 17), depth="cnn__n_conv_layers"),
    },
    sizes=(32, 48, 64),
    n_iter=(6, 3, 1),
    cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0),
    n_jobs=2,
    verbose=1,
    random_state=0,
).fit(X_train, y_train)

# %%
# The stages, and the best candidate of all.

results = search.cv_results_
table = Table("size", "candidates", "best score", "seconds", "learning rates searched")
for stage, size in enumerate(search.sizes_):
    rows = results["stage"] == stage
    low, high = search.spaces_[stage].ranges["cnn__learning_rate"]
    best, seconds = results["mean_test_score"][rows], results["mean_fit_time"][rows]
    table.add_row(
        f"{size}",
        f"{rows.sum()}",
        f"{best.max():.3f}",
        f"{seconds.sum():.1f}",
        f"{low:.2g} to {high:.2g}",
    )
print(table)
print("Best hyperparameters:", search.best_params_)
print(f"Validation accuracy: {search.best_score_:.3f}")
print(f"Test accuracy: {search.score(X_test, y_test):.3f}")

# %%
# Which learning rates were tried at which size, and what they scored.

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for size, marker in zip(search.sizes_, "osD", strict=True):
    rows = results["size"] == size
    rates = results["param_cnn__learning_rate"][rows].astype(float)
    scores = results["mean_test_score"][rows]
    ax.scatter(rates, scores, marker=marker, label=f"{size} px")
ax.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy")
ax.legend()
figure.savefig("demo.png", dpi=120)
print("The figure is in demo.png")

# %%
# All of it and more on one page: how the best score developed, how the ranges narrowed,
# and what failed. With at least 10 candidates of a size, it also says which
# hyperparameters matter.

write_report(search, "demo.html", random_state=0)
print("The report is in demo.html")
