"""The studies of a search, in optuna-dashboard: through its API and in a browser."""

import json
import re
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from scipy.stats import loguniform, randint
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from sklearn_iis import CNNClassifier, IISSearchCV, ImageResizer, PerLayer
from sklearn_iis.datasets import make_shapes
from sklearn_iis.testing import FormulaClassifier, X, y
from tests.servers import dashboard, get, new_postgresql_database, post

# What is written: a search of two stages, and the same with more candidates

SPACE = {
    "cnn__learning_rate": loguniform(1e-3, 1),
    "cnn__n_conv_layers": randint(1, 3),
    "cnn__n_filters": PerLayer(randint(4, 9), depth="cnn__n_conv_layers"),
    "cnn__batch_size": [16, 32, -1],  # of which the last fails
}
N_ITER, MORE = (4, 2), (6, 3)


def run_search(storage, n_iter=N_ITER):
    images, labels = make_shapes(60, size=16, n_classes=2, random_state=0)
    cnn = CNNClassifier(max_epochs=3, early_stopping=True, random_state=0)
    search = IISSearchCV(
        Pipeline([("resize", ImageResizer()), ("cnn", cnn)]),
        SPACE,
        sizes=(8, 16),
        n_iter=n_iter,
        cv=ShuffleSplit(1, test_size=0.3, random_state=0),
        scoring="neg_log_loss",  # no two candidates have the same
        refit=False,
        storage=storage,
        study_name="iis",
        random_state=2,
    )
    # Two threads wait for each other all the time if the machine is busy.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        search.fit(images, labels)


# What is read by plain Optuna; nothing below knows how it was written


def load_studies(storage):
    """The studies, in the order of their numbers."""
    if "://" not in storage:
        storage = optuna.storages.JournalStorage(JournalFileBackend(storage))
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(storage=storage, study_name=name) for name in names]


def as_text(attribute):
    """An attribute as the dashboard shows it."""
    if isinstance(attribute, str | int | float):
        return str(attribute)
    return json.dumps(attribute)


def count_trials(studies):
    return [len(study.trials) for study in studies]


def is_near(text, value):
    return float(text) == pytest.approx(value, nan_ok=True)


def check_api(address, studies):
    """The dashboard knows the studies, and of each trial what Optuna knows."""
    summaries = get(address, "/api/studies")["study_summaries"]
    assert [each["study_name"] for each in summaries] == [
        study.study_name for study in studies
    ]
    for summary, study in zip(summaries, studies, strict=True):
        assert summary["directions"] == [study.direction.name.lower()]
        shown = get(address, f"/api/studies/{summary['study_id']}")
        assert [trial["number"] for trial in shown["best_trials"]] == [
            study.best_trial.number
        ]
        for trial, known in zip(shown["trials"], study.trials, strict=True):
            assert trial["state"] == known.state.name.capitalize()
            assert trial.get("values") == known.values
            params = {
                each["name"]: each["param_external_value"] for each in trial["params"]
            }
            assert params == {key: str(value) for key, value in known.params.items()}
            attributes = {each["key"]: each["value"] for each in trial["user_attrs"]}
            assert attributes == {
                key: as_text(value) for key, value in known.user_attrs.items()
            }
            values = trial["intermediate_values"]
            assert [each["step"] for each in values] == [*known.intermediate_values]
            assert all(
                is_near(each["value"], known.intermediate_values[each["step"]])
                for each in values
            )


def sqlite(folder):
    return f"sqlite:///{folder / 'studies.db'}"


def journal(folder):
    return str(folder / "studies.journal")


def postgresql(folder):
    return new_postgresql_database()


@pytest.mark.parametrize("locate", [sqlite, journal, postgresql])
def test_a_search_that_goes_on_through_the_api(locate, tmp_path):
    storage = locate(tmp_path)
    run_search(storage)
    with dashboard(storage) as address:
        studies = load_studies(storage)
        assert [study.study_name for study in studies] == [
            "iis: stage 0",
            "iis: stage 1",
        ]
        assert count_trials(studies) == [*N_ITER]
        assert TrialState.FAIL in {trial.state for trial in studies[0].trials}
        run_search(storage, MORE)
        studies = load_studies(storage)
        assert count_trials(studies)[0] == MORE[0]
        assert count_trials(studies)[1] > N_ITER[1]
        check_api(address, studies)


class FailedByHand(FormulaClassifier):
    """The first one ends its trial in a dashboard."""

    address = None

    def fit(self, X, y):
        address, FailedByHand.address = self.address, None
        if address is not None:
            (study,) = get(address, "/api/studies")["study_summaries"]
            (trial,) = get(address, f"/api/studies/{study['study_id']}")["trials"]
            post(address, f"/api/trials/{trial['trial_id']}/tell", state="fail")
        return super().fit(X, y)


def test_what_is_failed_by_hand_is_kept_nevertheless(tmp_path, monkeypatch):
    """As a trial of its own; the button is there for trials that are running."""
    storage = sqlite(tmp_path)
    assert load_studies(storage) == []  # which creates the tables
    with dashboard(storage) as address:
        monkeypatch.setattr(FailedByHand, "address", address)
        search = IISSearchCV(
            FailedByHand(),
            {"rate": loguniform(1e-3, 1)},
            n_iter=3,
            cv=2,
            refit=False,
            storage=storage,
            pruner="median",  # without one, trials are written when they are finished
            random_state=0,
        ).fit(X, y)
    (study,) = load_studies(storage)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, *[TrialState.COMPLETE] * 6]
    assert not any(search.cv_results_["error"])


# In a browser


@contextmanager
def opened(browser, address):
    """A tab with the start page, which fails if it asks elsewhere or logs anything."""
    elsewhere, messages = [], []
    tab = browser.new_page(viewport={"width": 1280, "height": 1000})

    def route(route):
        if route.request.url.startswith(f"{address}/"):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    tab.route("**/*", route)
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    try:
        tab.goto(address)
        yield tab
        assert elsewhere == []
        assert messages == []
    finally:
        tab.close()


def open_study(tab, name):
    # The link is named by the number of the study, its name and its direction.
    tab.get_by_role("link", name=name).click()
    tab.get_by_text(re.compile(rf"^{re.escape(name)} \(id=\d+\)$")).wait_for()


def go_to(tab, page):
    """Follow a link of a study's menu, such as "History" or "Trials (List)"."""
    tab.get_by_role("link", name=page, exact=True).click()


def open_trial(tab, number):
    """Choose a trial in the list of trials; return the paragraphs shown."""
    tab.get_by_role("button", name=re.compile(rf"^Trial {number}\b")).click()
    tab.get_by_role("heading", name=re.compile(rf"^Trial {number} \(")).wait_for()
    return tab.get_by_role("main").get_by_role("paragraph").all_inner_texts()


def section(paragraphs, title, n_rows):
    """The paragraphs that follow the one of this title, sorted."""
    start = paragraphs.index(title) + 1
    return sorted(map(in_a_line, paragraphs[start : start + n_rows]))


def in_a_line(text):
    """As a page shows it: a traceback, too."""
    return " ".join(text.split())


def check_trial(tab, trial):
    paragraphs = open_trial(tab, trial.number)
    params = section(paragraphs, "Parameter", len(trial.params))
    assert params == sorted(f"{key} {value}" for key, value in trial.params.items())
    attributes = section(paragraphs, "User Attributes", len(trial.user_attrs))
    assert attributes == sorted(
        in_a_line(f"{key} {as_text(value)}") for key, value in trial.user_attrs.items()
    )
    if trial.intermediate_values:
        steps = len(trial.intermediate_values)
        rows = section(paragraphs, "Intermediate Values", steps)
        curve = {int(row.split()[0]): row.split()[1] for row in rows}
        assert curve.keys() == trial.intermediate_values.keys()
        for epoch, value in trial.intermediate_values.items():
            assert is_near(curve[epoch], value)


def check_history(tab, study):
    best = study.best_trial
    title = tab.get_by_role("heading", name=f"Best Trial (number={best.number})")
    title.wait_for()
    # The card of the best trial: its title, its value, its parameters.
    value = title.locator("xpath=following-sibling::h3").inner_text()
    assert is_near(value, best.value)
    params = ", ".join(f"{key}: {value}" for key, value in best.params.items())
    assert tab.get_by_text(f"Params = [{params}]", exact=True).is_visible()
    # The legend of the learning curves.
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        tab.get_by_text(f"trial #{trial.number}", exact=True).first.wait_for()


def check_study(tab, study):
    check_history(tab, study)
    go_to(tab, "Trials (List)")
    tab.get_by_text(f"{len(study.trials)} Trials", exact=True).wait_for()
    for trial in study.trials:
        check_trial(tab, trial)


def test_a_search_that_goes_on_in_a_browser(browser, tmp_path):
    """An open page shows what another process adds without being loaded again."""
    storage = sqlite(tmp_path)
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        other.submit(run_search, storage).result()
        with dashboard(storage) as address, opened(browser, address) as tab:
            first, _ = load_studies(storage)
            open_study(tab, first.study_name)
            check_history(tab, first)
            go_to(tab, "Trials (List)")
            tab.reload()  # the first page asks for news every 2 s, others 10 s
            tab.get_by_text(f"{N_ITER[0]} Trials", exact=True).wait_for()
            search = other.submit(run_search, storage, MORE)
            tab.get_by_text(f"{MORE[0]} Trials", exact=True).wait_for()
            search.result()
            first, last = load_studies(storage)
            assert count_trials([first]) == [MORE[0]]
            go_to(tab, "History")
            check_study(tab, first)
            go_to(tab, "Return to the top page")
            open_study(tab, last.study_name)
            check_study(tab, last)
