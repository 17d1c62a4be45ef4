"""Names of hyperparameters that an estimator does not have."""

import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from sklearn_iis import IISSearchCV, OnlyIf, SearchSpace

PIPE = Pipeline([("pca", PCA()), ("clf", LogisticRegression())])
BAG = BaggingClassifier(SVC())
C = stats.loguniform(1e-3, 1e3)


@pytest.mark.parametrize(
    "space",
    [
        {"pca__n_components": [1, 2], "clf__C": [1.0]},
        # The parameters of a searched step are those of whatever is chosen.
        {"clf": [SVC()], "clf__gamma": C},
        {"clf": [BAG], "clf__estimator__C": C},
        {"clf": [BAG], "clf__estimator": [SVC()], "clf__estimator__C": C},
        {"clf": [SVC(), LogisticRegression()], "clf__gamma": C},
        {"pca": [PCA(), "passthrough", None], "pca__n_components": [1, 2]},
        {"clf": [SVC()], "clf__C": OnlyIf(C, "clf", [SVC()])},
        # What nobody knows before it is tried.
        {"clf": ["one", "other"], "clf__gamma": C},
        {"clf": [SVC, LogisticRegression], "clf__gamma": C},
        # The step stays what it is for some candidates.
        {
            "pca": ["passthrough", PCA()],
            "clf": OnlyIf([DecisionTreeClassifier()], "pca", [PCA()]),
            "clf__C": OnlyIf(C, "pca", ["passthrough"]),
        },
    ],
)
def test_what_an_estimator_has(space):
    SearchSpace(space).check_names(PIPE)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"clf__c": C}, "Pipeline has no parameter 'clf__c'; .* is 'clf__C'"),
        (
            {"clf": [SVC(), LogisticRegression()], "clf__gama": C},
            r"clf__gama: no choice of 'clf', \['LogisticRegression', 'SVC'\], has a "
            "parameter 'gama'; the nearest one is 'gamma'",
        ),
        ({"clf": [SVC()], "clf__estimator__C": C}, "no choice of 'clf', .*SVC"),
        (
            {"clf": [BAG], "clf__estimator": [SVC()], "clf__estimator__gama": C},
            "no choice of 'clf__estimator', .*'gama'; the nearest one is 'gamma'",
        ),
        ({"pca": [PCA(), "passthrough"], "pca__n_component": [1]}, "'n_components'"),
        (
            {
                "clf": [SVC(), LogisticRegression()],
                "clf__gamma": OnlyIf(C, "clf", [LogisticRegression()]),
            },
            r"no choice of 'clf', \['LogisticRegression'\], has a parameter 'gamma'",
        ),
        ([{"clf": [SVC()]}, {"clf__gamma": C}], "Pipeline has no parameter"),
        ([{"clf": [SVC()], "clf__gama": C}, {"clf__C": C}], "no choice of 'clf'"),
    ],
)
def test_what_it_lacks_is_an_error_before_anything_is_fitted(space, message):
    with pytest.raises(ValueError, match=message):
        IISSearchCV(PIPE, space, n_iter=2).fit([[0.0], [1.0]] * 5, [0, 1] * 5)
