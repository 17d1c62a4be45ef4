"""A search on real photographs, where they are."""

import os
from pathlib import Path

import pytest
from scipy.stats import loguniform
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer
from sklearn_iis.datasets import load_image_folder

FOLDER = Path(
    os.environ.get(
        "FLOWERS12", Path(__file__).parents[2] / "shared" / "data" / "flowers12"
    )
)


@pytest.mark.flowers12
@pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no photographs: set FLOWERS12 to their folder"
)
def test_photographs_are_told_apart():
    paths, species = load_image_folder(FOLDER / "train", return_X_y=True)
    some = species < 3
    paths = [path for path, wanted in zip(paths, some, strict=True) if wanted]
    pipe = Pipeline(
        [
            ("resize", ImageResizer()),
            ("cnn", CNNClassifier(n_filters=16, max_epochs=15, random_state=0)),
        ]
    )
    search = IISSearchCV(
        pipe,
        {"cnn__learning_rate": loguniform(1e-3, 0.1), "cnn__n_conv_layers": [2, 3]},
        sizes=(16, 32),
        n_iter=(4, 2),
        cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=0),
        random_state=0,
    ).fit(paths, species[some])
    assert search.best_score_ > 0.5  # chance is 1/3
