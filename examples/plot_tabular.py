"""
Search with 16, 32 and 64 principal components
==============================================

What increases from stage to stage need not be the size of images. Here it is the
number of principal components that a support vector machine is trained on.
"""

# %%
# The digits as a table: 64 columns, of which nothing says that they are pixels.

import matplotlib.pyplot as plt
import numpy as np
from rich import print
from rich.table import Table
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, stratify=y, random_state=0
)

# %%
# The PCA takes the place of the :class:`~sklearn_iis.ImageResizer`, and `size_param`
# says which of its parameters the sizes are values of. The last size may not exceed
# the number of features, nor that of the samples of a training split.

pipe = Pipeline(
    [("scale", StandardScaler()), ("pca", PCA(random_state=0)), ("svc", SVC())]
)
space = {"svc__C": loguniform(1e-2, 1e4), "svc__gamma": loguniform(1e-6, 10)}
search = IISSearchCV(
    pipe,
    space,
    sizes=(16, 32, 64),
    size_param="pca__n_components",
    n_iter=(30, 20, 10),
    cv=StratifiedShuffleSplit(3, test_size=0.3, random_state=0),
    random_state=0,
)
search.fit(X_train, y_train)

# %%
# A good `gamma` depends on the distances between samples, and these on the number of
# components; here a range that was narrowed with fewer of them still holds what is
# good with more. A parameter of which that is not so belongs in `size_dependent`.
# Poor candidates, of which the first stage has most, have many support vectors and take
# longer, so that its milliseconds are not those of its few components alone.

results = search.cv_results_
seconds = results["mean_fit_time"] + results["mean_score_time"]
table = Table("components", "candidates", "best score", "ms each", "gammas searched")
for stage, size in enumerate(search.sizes_):
    rows = results["stage"] == stage
    low, high = search.spaces_[stage].ranges["svc__gamma"]
    table.add_row(
        f"{size}",
        f"{rows.sum()}",
        f"{results['mean_test_score'][rows].max():.3f}",
        f"{1000 * np.median(seconds[rows]):.0f}",
        f"{low:.2g} to {high:.2g}",
    )
print(table)
print("Best hyperparameters:", search.best_params_)
print(f"Test accuracy: {search.score(X_test, y_test):.3f}")

# %%
# How much is saved depends on how much the cost of a fit does on the number of
# components. For a support vector machine and for gradient boosting, on four data sets,
# it was measured in :doc:`tabular </tabular>`, along with what the same number of
# candidates finds with all components.

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for size, marker in zip(search.sizes_, "osD", strict=True):
    rows = results["size"] == size
    gammas = results["param_svc__gamma"][rows].astype(float)
    scores = results["mean_test_score"][rows]
    ax.scatter(gammas, scores, marker=marker, label=f"{size} components")
ax.set(xscale="log", xlabel="gamma", ylabel="validation accuracy")
ax.legend()
plt.show()
