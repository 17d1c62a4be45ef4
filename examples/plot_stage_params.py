"""
Epochs and augmentation that grow with the size
===============================================

What is good at one size need not be at another: small images stand little shift and
dropout, large ones need more. `stage_params` has a value for each stage, of any
parameter that is not searched (Tan and Le 2021, EfficientNetV2, section 4).
"""

# %%
# The sizes, and what changes with them.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer

sizes = (4, 6, 8)
stage_params = {
    "cnn__max_epochs": (6, 8, 10),
    "cnn__shift": (0.0, 0.0, 0.125),
    "cnn__dropout": (0.0, 0.1, 0.2),
}
digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, train_size=500, random_state=0
)
cnn = CNNClassifier(random_state=0)
search = IISSearchCV(
    Pipeline([("resize", ImageResizer()), ("cnn", cnn)]),
    {"cnn__learning_rate": loguniform(1e-2, 0.5), "cnn__n_filters": randint(8, 25)},
    sizes=sizes,
    stage_params=stage_params,
    n_iter=(6, 3, 2),
    cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=0),
    random_state=0,
).fit(X_train, y_train)

# %%
# They belong to a candidate as the size does: `best_params_` has them. The best of all
# sizes is chosen, which need not be the largest; ``select="last"`` chooses of the
# largest only.

print("Best hyperparameters:", search.best_params_)
print(f"Test accuracy: {search.score(X_test, y_test):.3f}")

# %%
# An image as each stage has it, moved by as much as it may be, with the best score of
# the stage.

results = search.cv_results_
figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
for stage, ax in enumerate(axes):
    size, shift = sizes[stage], int(stage_params["cnn__shift"][stage] * sizes[stage])
    image = ImageResizer(size).fit_transform(digits.images[:1])[0]
    ax.imshow(np.pad(image, (shift, 0), mode="edge")[:size, :size], cmap="gray_r")
    best = results["mean_test_score"][results["stage"] == stage].max()
    ax.set(title=f"{size} px, shift up to {shift} px\nbest accuracy {best:.3f}")
    ax.set(xticks=[], yticks=[])
plt.show()
