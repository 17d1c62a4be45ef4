"""
Nothing to plan but the time
============================

With ``search="ladder"`` all sizes run at once: the best third of the candidates of each
size is promoted to the next one whenever a worker is free. So the only budget is the
time of the whole call, and there is something to deliver whenever it is over.
"""

# %%
# Scanned digits of 8 pixels, so that it takes seconds; for photographs, sizes are
# something like 32, 64 and 128. With ``pooling="average"`` the weights of the network
# do not depend on the size of the image. A candidate that is promoted goes on with what
# it has learned, and needs fewer epochs at the larger sizes, where an epoch takes
# longer.

import matplotlib.pyplot as plt
from scipy.stats import loguniform, randint
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.inspection import ConvergenceDisplay

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, train_size=500, random_state=0
)
cnn = CNNClassifier(pooling="average", n_conv_layers=3, random_state=0)
search = IISSearchCV(
    Pipeline([("resize", ImageResizer()), ("cnn", cnn)]),
    {
        "cnn__learning_rate": loguniform(1e-3, 1),
        "cnn__n_filters": randint(8, 33),
        "cnn__l2": loguniform(1e-6, 1e-2),
    },
    sizes=(4, 6, 8),
    stage_params={"cnn__max_epochs": (6, 4, 3)},
    inherit_weights=True,
    search="ladder",
    timeout=30,  # seconds, those of the last fit among them
    cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0),
    random_state=0,
).fit(X_train, y_train)

# %%
# How many candidates came how far, and what the ladder says of each pair of sizes: if
# small images mislead, it notices, and promotes more of them or leaves a size out.

for size, stage in zip(search.sizes_, search.stages_, strict=True):
    scores = stage.cv_results_["mean_test_score"]
    print(f"{size} px: {len(scores)} candidates, best {scores.max():.3f}")
    print("   ", stage.verdict_)
print(f"accuracy in validation {search.best_score_:.3f}")
print(f"accuracy on the test images {search.score(X_test, y_test):.3f}")

# %%
# The best score over time. The number of candidates depends on how fast the machine is.

ConvergenceDisplay.from_search(search)
plt.show()
