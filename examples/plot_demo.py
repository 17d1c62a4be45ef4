"""
Search at 16, 32 and 64 pixels
==============================

Hyperparameters of a convolutional network are searched on small images first; the good
region of the space and the best candidates are handed on to the next size.
"""

# %%
# Images of shapes, made on the spot, so that nothing has to be downloaded. A class is a
# number of lobes together with a texture, which small images hardly show.

import matplotlib.pyplot as plt
import numpy as np
from rich import print
from rich.table import Table
from scipy.stats import loguniform, randint
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, PerLayer
from sklearn_iis.datasets import make_shapes
from sklearn_iis.inspection import write_report

X, y = make_shapes(1200, size=64, n_classes=4, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, stratify=y, random_state=0
)

# %%
# The space is what :class:`~sklearn.model_selection.RandomizedSearchCV` takes. With
# `PerLayer` there is a value for each layer, as many as another hyperparameter says.

pipe = Pipeline(
    [
        ("resize", ImageResizer()),
        ("cnn", CNNClassifier(random_state=0)),
    ]
)
space = {
    "cnn__learning_rate": loguniform(1e-4, 1),
    "cnn__batch_size": [16, 32, 64],
    "cnn__n_conv_layers": randint(2, 5),
    "cnn__n_filters": PerLayer(randint(8, 33), depth="cnn__n_conv_layers"),
    "cnn__l2": loguniform(1e-7, 1e-2),
}
search = IISSearchCV(
    pipe,
    space,
    sizes=(16, 32, 64),
    n_iter=(20, 10, 5),
    cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0),
    n_jobs=2,
    verbose=1,
    random_state=0,
)
search.fit(X_train, y_train)

# %%
# The stages, and the best candidate of all.

results = search.cv_results_
table = Table("size", "candidates", "best score", "seconds", "learning rates searched")
for stage, size in enumerate(search.sizes_):
    rows = results["stage"] == stage
    low, high = search.spaces_[stage].ranges["cnn__learning_rate"]
    table.add_row(
        f"{size}",
        f"{rows.sum()}",
        f"{np.nanmax(results['mean_test_score'][rows]):.3f}",
        f"{results['mean_fit_time'][rows].sum():.1f}",
        f"{low:.2g} to {high:.2g}",
    )
print(table)
print("Best hyperparameters:", search.best_params_)
print(f"Test accuracy: {search.score(X_test, y_test):.3f}")

# %%
# Which learning rates were tried at which size, and what they scored.

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for size, marker in zip(search.sizes_, "osD", strict=True):
    rows = results["size"] == size
    axes.scatter(
        results["param_cnn__learning_rate"][rows].astype(float),
        results["mean_test_score"][rows],
        marker=marker,
        label=f"{size} px",
    )
axes.axhline(1 / len(np.unique(y)), color="grey", linestyle=":", label="chance")
axes.set(xscale="log", xlabel="learning rate", ylabel="validation accuracy")
axes.legend()
figure.savefig("demo.png", dpi=120)
print("The figure is in demo.png")

# %%
# All of it and more on one page: how the best score developed, how the ranges narrowed,
# which hyperparameters matter, and what failed.

write_report(search, "demo.html", random_state=0)
print("The report is in demo.html")
