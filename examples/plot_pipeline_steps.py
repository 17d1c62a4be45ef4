"""
Swap steps of a pipeline
========================

A space may be a list: each dict of it is an alternative with hyperparameters of its
own, such as another classifier. Inside of a dict, `OnlyIf` says that a hyperparameter
exists only with certain values of another one.
"""

# %%
# Which classifier, with or without a PCA, for scanned digits? A step can be left out by
# "passthrough". Each search keeps to the conditions, also those that learn, as TPE.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV, OnlyIf

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=500, stratify=y, random_state=0
)
pipe = Pipeline(
    [("scale", StandardScaler()), ("pca", "passthrough"), ("classifier", SVC())]
)
common = {
    "scale": ["passthrough", StandardScaler(), MinMaxScaler()],
    "pca": ["passthrough", PCA(30, random_state=0)],
}
space = [
    common
    | {
        "classifier": [SVC()],
        "classifier__C": loguniform(1e-2, 1e3),
        "classifier__kernel": ["linear", "rbf"],
        "classifier__gamma": OnlyIf(
            loguniform(1e-5, 10), "classifier__kernel", ["rbf"]
        ),
    },
    common
    | {
        "classifier": [KNeighborsClassifier()],
        "classifier__n_neighbors": randint(1, 20),
    },
    common
    | {
        "classifier": [LogisticRegression(max_iter=300)],
        "classifier__C": loguniform(1e-4, 10),
    },
]
search = IISSearchCV(pipe, space, n_iter=40, cv=3, random_state=0)
search.fit(X_train, y_train)
print("Best hyperparameters:", search.best_params_)
print(f"Test accuracy: {search.score(X_test, y_test):.3f}")

# %%
# All candidates, by their classifier. What does not exist for a candidate is masked in
# its row of `cv_results_`.

results = search.cv_results_
names = np.array([type(c).__name__ for c in results["param_classifier"]])
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for name in np.unique(names):
    ax.plot(1 - results["mean_test_score"][names == name], names[names == name], "o")
ax.set(xscale="log", xlabel="validation error")
plt.show()
