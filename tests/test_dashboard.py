"""The studies of a search, in optuna-dashboard: through its API and in a browser."""

import re
import shutil
from contextlib import contextmanager

import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from tests.servers import dashboard, get, new_postgresql_database

# What is written


DISTRIBUTIONS = {
    "cnn__learning_rate": FloatDistribution(1e-5, 1.0, log=True),
    "cnn__n_filters[0]": IntDistribution(4, 64, log=True),
    "cnn__activation": CategoricalDistribution(("relu", "tanh")),
}


def make_trial(number, state=TrialState.COMPLETE, **attributes):
    values = [0.25 + number / 16 + epoch / 32 for epoch in range(3)]
    if state == TrialState.FAIL:
        values[-1] = float("nan")
    return create_trial(
        state=state,
        value=values[-1] if state == TrialState.COMPLETE else None,
        params={
            "cnn__learning_rate": 10 ** -(number + 0.5),
            "cnn__n_filters[0]": 8 + number,
            "cnn__activation": "relu",
        },
        distributions=DISTRIBUTIONS,
        intermediate_values=dict(enumerate(values)),
        user_attrs={"split": 0, "fit_time": 1.25 + number, **attributes},
    )


def write_study(storage):
    """Write the studies of a search of two stages."""
    for stage, size in enumerate((32, 64)):
        study = optuna.create_study(
            storage=storage,
            study_name=f"iis: stage {stage}, size {size}",
            direction="maximize",
        )
        study.add_trials([make_trial(number) for number in range(3)])
        error = "ValueError: the loss is not finite"
        study.add_trial(make_trial(3, TrialState.FAIL, error=error))


def write_trial(storage, name):
    """Write one trial more, better than the others, to the study of that name."""
    optuna.load_study(storage=storage, study_name=name).add_trial(make_trial(4))


# What is read; nothing below knows how it was written


def load_studies(storage):
    """The studies, in the order of their numbers."""
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(storage=storage, study_name=name) for name in names]


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
            assert attributes.keys() == known.user_attrs.keys()
            values = trial["intermediate_values"]
            assert [each["step"] for each in values] == [*known.intermediate_values]
            assert all(
                is_near(each["value"], known.intermediate_values[each["step"]])
                for each in values
            )


def sqlite(folder):
    url = f"sqlite:///{folder / 'studies.db'}"
    return url, url


def journal(folder):
    path = str(folder / "studies.log")
    return optuna.storages.JournalStorage(JournalFileBackend(path)), path


def postgresql(folder):
    url = new_postgresql_database()
    return url, url


@pytest.mark.parametrize("make_storage", [sqlite, journal, postgresql])
def test_any_storage_through_the_api(make_storage, tmp_path):
    storage, argument = make_storage(tmp_path)
    write_study(storage)
    with dashboard(argument) as address:
        studies = load_studies(storage)
        assert len(studies) == 2
        check_api(address, studies)


# In a browser


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright, of the extra tests"
    )
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs a browser: chromium is not on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(chromium, address):
    """A tab with the start page, which fails if it asks elsewhere or logs anything."""
    elsewhere, messages = [], []
    tab = chromium.new_page(viewport={"width": 1280, "height": 1000})

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


def section(paragraphs, title, rows):
    """The pairs of words of the paragraphs that follow the one of this title."""
    start = paragraphs.index(title) + 1
    return dict(row.split(" ", 1) for row in paragraphs[start : start + rows])


def check_trial(tab, trial):
    paragraphs = open_trial(tab, trial.number)
    params = section(paragraphs, "Parameter", len(trial.params))
    assert params == {key: str(value) for key, value in trial.params.items()}
    attributes = section(paragraphs, "User Attributes", len(trial.user_attrs))
    assert attributes == {key: str(value) for key, value in trial.user_attrs.items()}
    curve = section(paragraphs, "Intermediate Values", len(trial.intermediate_values))
    assert [*curve] == [str(epoch) for epoch in sorted(trial.intermediate_values)]
    assert all(
        is_near(curve[str(epoch)], value)
        for epoch, value in trial.intermediate_values.items()
    )


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


def test_a_search_in_a_browser(chromium, tmp_path):
    url, _ = sqlite(tmp_path)
    write_study(url)
    with dashboard(url) as address, opened(chromium, address) as tab:
        studies = load_studies(url)
        for study in studies:
            open_study(tab, study.study_name)
            check_history(tab, study)
            go_to(tab, "Trials (List)")
            tab.get_by_text(f"{len(study.trials)} Trials", exact=True).wait_for()
            for trial in study.trials:
                check_trial(tab, trial)
            go_to(tab, "Return to the top page")


def test_a_search_that_goes_on_in_a_browser(chromium, tmp_path):
    """An open page shows new trials without being loaded again."""
    url, _ = sqlite(tmp_path)
    write_study(url)
    study = load_studies(url)[-1]
    with dashboard(url) as address, opened(chromium, address) as tab:
        open_study(tab, study.study_name)
        go_to(tab, "Trials (List)")
        tab.reload()  # it asks for news every 2 s if it was the first page, else 10 s
        n_trials = len(study.trials)
        tab.get_by_text(f"{n_trials} Trials", exact=True).wait_for()
        write_trial(url, study.study_name)
        tab.get_by_text(f"{n_trials + 1} Trials", exact=True).wait_for()
        check_trial(tab, study.trials[-1])
        go_to(tab, "History")
        assert study.best_trial.number == n_trials
        check_history(tab, study)
