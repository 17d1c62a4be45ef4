"""Spaces to start from: they fit their estimators, and find better ones."""

import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch.optim import RMSprop

from sklearn_iis import (
    CNNClassifier,
    IISSearchCV,
    ImageResizer,
    SearchSpace,
    default_space,
)
from sklearn_iis.datasets import make_shapes

CNN = CNNClassifier(max_epochs=1, n_conv_layers=1, random_state=0)


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (LogisticRegression(), ["C"]),
        (LinearSVC(), ["C"]),
        (RidgeClassifier(), ["alpha"]),
        (SVC(), ["C", "gamma"]),
        (CNNClassifier(), ["learning_rate", "l2", "flip", "n_filters", "dropout"]),
        (
            CNNClassifier(pooling="average"),
            ["learning_rate", "l2", "flip", "n_filters", "dropout", "n_conv_layers"],
        ),
        (
            CNNClassifier(module="efficientnet-lite0"),
            ["learning_rate", "l2", "flip", "backbone_rate", "module__dropout"],
        ),
        (CNNClassifier(optimizer=RMSprop), ["l2", "flip", "n_filters", "dropout"]),
        (
            make_pipeline(StandardScaler(), PCA(2), LogisticRegression()),
            ["logisticregression__C"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_space_has_parameters_of_the_estimator(estimator, names):
    space = default_space(estimator)
    assert list(space) == names
    SearchSpace(space).check_names(estimator)


@pytest.mark.parametrize(
    ("cnn", "rate"),
    [
        (CNNClassifier(), 0.05),
        (CNNClassifier(module="efficientnet-lite0"), 0.01),
        (CNNClassifier(optimizer="adamw"), 0.001),
        (CNNClassifier(schedule="constant"), 0.01),
    ],
    ids=["own", "backbone", "adamw", "constant"],
)
def test_rates_are_around_the_usual_one(cnn, rate):
    low, high = default_space(cnn)["learning_rate"].support()
    assert low <= rate / 3 < 3 * rate <= high


def test_candidates_can_be_trained():
    X, y = make_shapes(40, size=16, n_classes=2, random_state=0, return_X_y=True)
    pipe = make_pipeline(ImageResizer(8), CNN)
    search = IISSearchCV(
        pipe,
        default_space(pipe),
        sizes=(8,),
        n_iter=3,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(X, y)
    assert len(search.cv_results_["params"]) == 3


def test_estimators_of_others_take_part():
    class Own(DecisionTreeClassifier):
        def default_space(self):
            return {"max_depth": [1, 2]}

    pipe = make_pipeline(StandardScaler(), Own())
    assert default_space(pipe) == {"own__max_depth": [1, 2]}


class Changed(LogisticRegression):
    """It may mean something else by its parameters."""


@pytest.mark.parametrize(
    "estimator",
    [DecisionTreeClassifier(), Changed(), make_pipeline(StandardScaler(), PCA(2))],
    ids=lambda value: type(value).__name__,
)
def test_without_a_space_there_is_an_error_that_tells_who_has_one(estimator):
    with pytest.raises(ValueError, match="there is one for CNNClassifier, Logistic"):
        default_space(estimator)
