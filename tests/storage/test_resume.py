"""The studies of a search: which belong to it, and what is known of them."""

import re

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from scipy.stats import randint, uniform

from sklearn_iis.execution._record import Record, Task
from sklearn_iis.space import SearchSpace
from sklearn_iis.storage import _resume
from sklearn_iis.storage._resume import CALL, OWNER, RANDOM_STATE, TIMED
from tests.storage.storages import SPACE, make_studies, open_storage

DATA = {"X": "(20, 2) a", "y": "(20,) b", "the splits": "2 items c"}
OTHER_DATA = {"X": "(18, 2) d", "y": "(18,) e", "the splits": "2 items f"}


def begin_stage(studies, stage=0, *, space=SPACE, promoted=(), random_state=0, **more):
    return studies.begin_stage(
        stage, space, promoted=list(promoted), random_state=random_state, **more
    )


def add(recorder, *numbers):
    for n in numbers:
        recorder.add(Task({"rate": 0.5, "n": n}, {}, 0), Record(scores=0.5))


def names(path):
    found = open_storage(path).open().get_all_studies()
    return [study.study_name for study in found]


def numbers(known):
    return [codes["n"] for codes in known]


def change_study(path, name, **attributes):
    reader = open_storage(path).open()
    study_id = reader.get_study_id_from_name(name)
    for key, value in attributes.items():
        reader.set_study_user_attr(study_id, key, value)


# Data


@pytest.mark.parametrize(
    "other", [OTHER_DATA, DATA | {"X": "(20, 2) d"}, DATA | {"y": "(20,) e"}]
)
def test_each_data_set_has_studies_of_its_own(other, storage):
    """Whichever is there first, and both are found again."""
    first, second = make_studies(storage), make_studies(storage, data=other)
    for studies, known in ((first, [1]), (second, [2, 3])):
        add(begin_stage(studies)[0], *known)
    found = names(storage)
    assert found[0] == "iis: stage 0"
    assert re.fullmatch(r"iis: stage 0 #[0-9a-f]{8}", found[1])
    again = make_studies(storage, data=other, budgets=[9])
    assert numbers(begin_stage(again)[1]) == [2, 3]
    again = make_studies(storage, data=DATA, budgets=[8])
    assert numbers(begin_stage(again)[1]) == [1]
    assert names(storage) == found


def test_studies_of_other_data_are_found_without_the_first(journal):
    make_studies(journal)
    add(begin_stage(make_studies(journal, data=OTHER_DATA))[0], 5)
    reader = open_storage(journal).open()
    reader.delete_study(reader.get_study_id_from_name("iis: stage 0"))
    again = make_studies(journal, data=OTHER_DATA, budgets=[9])
    assert numbers(begin_stage(again)[1]) == [5]
    assert len(names(journal)) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": DATA | {"the splits": "3 items"}}, ["the splits was 2 items c and"]),
        ({"call": {"estimator": "Forest"}}, ["estimator was Tree and is Forest"]),
        ({"settings": {"search": "'tpe'"}}, ["search was 'random' and is 'tpe'"]),
        (
            {"data": OTHER_DATA, "call": {"estimator": "Forest"}},
            [
                "X was (20, 2) a and is (18, 2) d",
                "estimator was",
                "Other X and y alone",
            ],
        ),
        ({"sizes": [3]}, ["sizes were None and are 3"]),
        ({"budgets": [3]}, ["n_iter was [4] and is [3]"]),
    ],
)
def test_anything_else_is_refused(settings, words, journal):
    make_studies(journal)
    before = journal.read_bytes()
    with pytest.raises(ValueError, match="was begun by another call") as caught:
        make_studies(journal, **settings)
    for word in [*words, "choose another study_name"]:
        assert word in str(caught.value)
    assert ("Other X" in str(caught.value)) == ("data" in settings and len(words) > 1)
    assert journal.read_bytes() == before


def test_changed_splits_of_other_data_are_refused(journal):
    """As a splitter that shuffles makes them without a random_state."""
    make_studies(journal)
    make_studies(journal, data=OTHER_DATA)
    with pytest.raises(ValueError, match="the splits was 2 items f and is 2 items g"):
        make_studies(journal, data=OTHER_DATA | {"the splits": "2 items g"})


def test_other_data_may_have_other_sizes_and_budgets(journal):
    make_studies(journal)
    make_studies(journal, data=OTHER_DATA, sizes=[1, 2], budgets=[2, 1])
    with pytest.raises(ValueError, match=r"n_iter was \[2, 1\] and is \[1, 1\]"):
        make_studies(journal, data=OTHER_DATA, sizes=[1, 2], budgets=[1, 1])


# What is known


def test_a_stage_goes_on_with_what_is_known(storage):
    add(begin_stage(make_studies(storage), random_state=7)[0], 3, 1, 3, 8)
    recorder, known, random_state = begin_stage(make_studies(storage), random_state=8)
    assert (known, random_state) == ([], 7)
    assert len(recorder.read()) == 3
    studies = make_studies(storage, budgets=[5])
    assert numbers(begin_stage(studies)[1]) == [3, 1, 8]
    add(recorder, 4)
    # What was added by the larger budget is proposed again.
    assert numbers(begin_stage(make_studies(storage, budgets=[5]))[1]) == [3, 1, 8]
    first = [{"rate": 0.5, "n": 1}]
    assert numbers(begin_stage(studies, promoted=first)[1]) == [3, 8]
    narrowed = SPACE.narrow([{"rate": 0.5, "n": 3}], margin=0.1, floor=0.1)
    assert numbers(begin_stage(studies, space=narrowed)[1]) == [3]


def test_a_search_that_depends_on_timing_goes_on_with_all(journal):
    recorder, known, _ = begin_stage(make_studies(journal), is_deterministic=False)
    assert known == []
    add(recorder, 3, 1)
    before = journal.read_bytes()
    for is_deterministic in (True, False):
        studies = make_studies(journal)
        known = begin_stage(studies, is_deterministic=is_deterministic)[1]
        assert numbers(known) == [3, 1]
    assert journal.read_bytes() == before


# Studies of others, and attributes that others have changed


def test_a_stage_of_another_call_is_refused_at_once(journal):
    """Whose first stage was deleted."""
    settings = {"sizes": [1, 2], "budgets": [2, 1]}
    begin_stage(make_studies(journal, **settings), 1)
    reader = open_storage(journal).open()
    reader.delete_study(reader.get_study_id_from_name("iis: stage 0"))
    make_studies(journal, **settings)
    reader.delete_study(reader.get_all_studies()[1]._study_id)
    with pytest.raises(ValueError, match=r"'iis: stage 1'.*belongs to another call"):
        make_studies(journal, **settings, call={"estimator": "Forest"})


@pytest.mark.parametrize("stage", [0, 1])
def test_a_study_of_somebody_else_is_refused_at_once(stage, storage):
    reader = open_storage(storage).open()
    name = f"iis: stage {stage}"
    study_id = reader.create_new_study([StudyDirection.MAXIMIZE], name)
    reader.create_new_trial(study_id, create_trial(state=TrialState.FAIL))
    with pytest.raises(ValueError, match=f"'{name}'.*was not made by IISSearchCV"):
        make_studies(storage, sizes=[1, 2], budgets=[2, 1])
    assert OWNER not in reader.get_study_user_attrs(study_id)


@pytest.mark.parametrize("stage", [0, 1])
def test_an_empty_study_is_as_good_as_none(stage, storage, monkeypatch):
    """It is left by a process that was killed amid its creation."""
    monkeypatch.setattr(_resume, "PATIENCE", 0.1)
    reader = open_storage(storage).open()
    reader.create_new_study([StudyDirection.MAXIMIZE], f"iis: stage {stage}")
    studies = make_studies(storage, sizes=[1, 2], budgets=[2, 1])
    add(begin_stage(studies, stage)[0], 3)
    # Also after the comparison.
    reader.create_new_study([StudyDirection.MAXIMIZE], "iis: stage 2")
    studies = make_studies(storage, sizes=[1, 2, 3], budgets=[2, 1, 1])
    add(begin_stage(studies, 2)[0], 3)


CALLS = {
    "no dict": [],
    "empty": {},
    "fingerprint": {"fingerprint": {"X": 3}},
    "sizes": {"sizes": [1]},
    "n_iter": {"n_iter": ["4"]},
    "negative": {"n_iter": [-4]},
    "longer": {"n_iter": [4, 4]},
    "n_known": {"n_known": None},
    "bool": {"n_known": [True]},
}


@pytest.mark.parametrize("name", CALLS)
def test_a_damaged_call_is_refused(name, journal):
    make_studies(journal)
    right = {"fingerprint": {}, "sizes": ["None"], "n_iter": [4], "n_known": [0]}
    call = right | CALLS[name] if CALLS[name] else CALLS[name]
    change_study(journal, "iis: stage 0", **{CALL: call})
    with pytest.raises(ValueError, match="not made by IISSearchCV, or changed since"):
        make_studies(journal)


@pytest.mark.parametrize("value", ["3", True, -1, 2**32, 0.5, [1], None])
def test_a_damaged_random_state_is_none(value, journal):
    begin_stage(make_studies(journal))
    change_study(journal, "iis: stage 0", **{RANDOM_STATE: value, TIMED: value})
    assert begin_stage(make_studies(journal), random_state=5)[2] == 5
    assert begin_stage(make_studies(journal), random_state=6)[2] == 5


def test_what_others_have_written_can_be_printed(journal):
    make_studies(journal)
    call = {
        "fingerprint": {"a\x1b[31m": "\x1b]0;x\x07" * 1_000_000},
        "sizes": ["\x9b1m"],
        "n_iter": [4],
        "n_known": [0],
    }
    change_study(journal, "iis: stage 0", **{CALL: call})
    with pytest.raises(ValueError, match="was begun by another call") as caught:
        make_studies(journal)
    text = str(caught.value)
    assert text.replace("\n", "").isprintable()
    assert len(text) < 10_000
    assert "\\x1b[31m was \\x1b]0;x\\x07" in text


def test_names_of_hyperparameters_may_hold_anything(journal):
    """They are the same for the next call."""
    settings = {"call": {"space's a\x1b": "\r", "estimator": "a" * 2000}}
    make_studies(journal, **settings)
    make_studies(journal, **settings)


@pytest.mark.parametrize("bounds", [(0, 2**62 + 2), (-(2**62), 2), (0, 2**64)])
def test_integers_that_are_not_exact_are_refused_at_once(bounds):
    with pytest.raises(ValueError, match=r"n: the range \(.*\) is too wide"):
        SearchSpace({"rate": uniform(0, 1), "n": randint(*bounds)})
