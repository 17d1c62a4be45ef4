import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sklearn_iis import SearchSpace
from sklearn_iis._trial import Trial, TrialScorer
from sklearn_iis.testing import SPACE, FormulaClassifier, X, y
from tests.test_guard import CODES, FixedSearch


def passthrough(estimator, X, y):
    return estimator.score(X, y)


def make_trial(codes=CODES, **params):
    estimator = FormulaClassifier(**params)
    return Trial(estimator, SearchSpace(SPACE), fixed={"size": 4}).set_params(**codes)


def test_fit_sets_the_decoded_candidate_on_a_clone():
    trial = make_trial()
    before = trial.estimator.get_params()
    assert trial.fit(X, y) is trial
    assert trial.estimator.get_params() == before
    assert not hasattr(trial.estimator, "classes_")
    params = trial.estimator_.get_params()
    assert params["rate"] == pytest.approx(0.01)
    assert params["widths"] == (5, 5)
    assert params["size"] == 4
    assert TrialScorer(passthrough)(trial, X, y) == trial.estimator_.score(X, y)


def test_unknown_codes_are_refused():
    with pytest.raises(ValueError, match=r"\['degre'\] are neither codes of"):
        make_trial().set_params(degre=1)


def test_candidates_that_are_estimators_are_cloned():
    choice = SVC()
    pipe = make_pipeline(LogisticRegression())
    space = SearchSpace({"logisticregression": [choice, LogisticRegression()]})
    trial = Trial(pipe, space).set_params(logisticregression=0).fit(X, y)
    assert trial.run_.record.error is None
    assert isinstance(trial.estimator_[0], SVC)
    assert trial.estimator_[0] is not choice


def test_clones_share_what_is_never_changed():
    trial = make_trial().fit(X, y)
    again = clone(trial)
    assert again.space is trial.space
    assert again.codes == trial.codes
    assert not hasattr(again, "estimator_")


def test_trial_has_the_tags_of_its_estimator():
    assert is_classifier(make_trial())


@pytest.mark.parametrize("error_score", [np.nan, -3])
def test_an_error_is_kept_and_scored(error_score):
    trial = make_trial(fails_below=1.0).fit(X, y)
    error = trial.run_.record.error
    assert "RuntimeError: no fit with the rate 0.0" in error
    score = TrialScorer(passthrough, error_score=error_score)(trial, X, y)
    np.testing.assert_equal(float(score), error_score)
    assert score.record.error == error


def test_an_error_is_kept_with_the_metric_that_guides():
    trial = make_trial(fails_below=1.0).fit(X, y)
    scores = TrialScorer(passthrough, metrics=("a", "b"))(trial, X, y)
    assert list(scores) == ["a", "b"]
    assert np.isnan(list(scores.values())).all()
    assert scores["a"].record.error == trial.run_.record.error


def test_raise_errors():
    trial = make_trial(fails_below=1.0)
    trial.raise_errors = True
    with pytest.raises(RuntimeError, match="no fit with the rate"):
        trial.fit(X, y)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda *args: np.nan, "the score is nan"),
        (lambda *args: np.float32(np.inf), "the score is inf"),
        (lambda *args: "good", "good"),
        (lambda *args: None, "TypeError: the score must be a number, got None"),
        (lambda *args: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_score_that_is_none_is_a_failure(scorer, message):
    score = TrialScorer(scorer)(make_trial().fit(X, y), X, y)
    assert np.isnan(score)
    assert message in score.record.error


def test_a_scorer_that_raises_ends_the_search_if_asked_to():
    scorer = TrialScorer(lambda *args: 1 / 0, error_score="raise")
    with pytest.raises(ZeroDivisionError):
        scorer(make_trial().fit(X, y), X, y)


def test_the_guide_comes_first():
    def scorer(estimator, X, y):
        return {"a": 1, "b": 2}

    trial = make_trial().fit(X, y)
    assert list(TrialScorer(scorer, guide="b")(trial, X, y)) == ["b", "a"]


def test_report_is_called_once_with_the_guiding_score():
    reports = []
    scorer = TrialScorer(
        lambda *args: {"a": 1, "b": 2},
        guide="b",
        metrics=("a", "b"),
        report=lambda codes, score: reports.append((codes, score)),
    )
    trial = make_trial().fit(X, y)
    scorer(trial, X, y)
    scorer(trial, X, y)
    assert reports == [(CODES, 2)]


def test_scores_equal_those_of_the_estimator_itself():
    space = SearchSpace({"C": [0.01, 1.0, 100.0]})
    scorer = make_scorer(lambda y, predicted: np.mean(y == predicted))
    reference = GridSearchCV(
        LogisticRegression(), {"C": [0.01, 1.0, 100.0]}, scoring=scorer, cv=3
    ).fit(X, y)
    search = FixedSearch(
        Trial(LogisticRegression(), space),
        list(ParameterGrid({"C": [0, 1, 2]})),
        scoring=TrialScorer(scorer),
        cv=3,
    ).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(
            search.cv_results_[key], reference.cv_results_[key]
        )


def test_a_metric_that_does_not_guide_fails_by_itself():
    scorer = TrialScorer(
        lambda *args: {"broken": "Traceback: why", "undefined": np.nan, "a": 1},
        metrics=("broken", "undefined", "a"),
        guide="a",
    )
    with pytest.warns(UserWarning, match=r"'broken' failed .* nan(.|\n)*why"):
        scores = scorer(make_trial().fit(X, y), X, y)
    assert list(scores) == ["a", "broken", "undefined"]
    assert scores["a"] == 1
    assert np.isnan([scores["broken"], scores["undefined"]]).all()


def test_the_guide_comes_first_also_if_all_metrics_fail():
    trial = make_trial(fails_below=1.0).fit(X, y)
    scorer = TrialScorer(passthrough, metrics=("a", "b", "c"), guide="b")
    assert list(scorer(trial, X, y)) == ["b", "a", "c"]
