"""Which searches suit the images and the time."""

import json

import pytest

from sklearn_iis.command._costs import Costs, measure_costs
from sklearn_iis.command._data import list_images
from sklearn_iis.command._errors import CommandError
from sklearn_iis.command._plan import WAYS, Limits, Way, make_search, plan_ways

# Of one thread, about as measured on flowers12.
COSTS = Costs(reading=1.7e-3, features=6.7e-7, training=7.5e-7)


def plan(
    seconds=180.0,
    names=WAYS,
    *,
    side=224,
    n_images=960,
    costs=COSTS,
    n_trained=2,
    **limits,
):
    ways = plan_ways(
        names,
        Limits(seconds, **limits),
        side=side,
        n_fitted=n_images * 3 // 4,
        n_images=n_images,
        costs=costs,
        n_trained=n_trained,
    )
    return {way.name: way for way in ways}


def test_flowers_of_three_minutes():
    """960 photographs: features of full size, and small ones for what is trained."""
    ways = plan()
    assert {name: way.sizes for name, way in ways.items()} == {
        "features": (224,),
        "fine-tuned": (32, 64),
        "from-scratch": (16, 32, 64),
    }
    # What is trained has half of the time on one core.
    ways = plan(n_trained=1)
    assert {name: way.sizes for name, way in ways.items()} == {
        "features": (224,),
        "from-scratch": (16, 32, 64),
    }


def test_more_time_gives_larger_sizes():
    largest = [
        {name: way.sizes[-1] for name, way in plan(seconds).items()}
        for seconds in (5, 30, 180, 3600, 36000)
    ]
    for name in WAYS:
        sizes = [found.get(name, 0) for found in largest]
        assert sizes == sorted(sizes)
    assert largest[-1] == dict.fromkeys(WAYS, 224)
    assert [*largest[0]] == ["from-scratch"]


def test_more_images_give_smaller_sizes():
    assert plan(n_images=100_000)["from-scratch"].sizes[-1] <= 16
    assert "features" not in plan(n_images=100_000)


@pytest.mark.parametrize(
    ("side", "sizes"),
    [
        (10, (8, 16)),  # enlarged to what can be halved a few times
        (28, (14, 28)),
        (32, (8, 16, 32)),
        (50, (25, 50)),
        (64, (16, 32, 64)),
        (224, (32, 64, 128, 224)),
    ],
)
def test_sizes_from_scratch_are_those_of_the_images(side, sizes):
    found = plan(1e6, ("from-scratch",), side=side)["from-scratch"].sizes
    assert found == sizes


def test_small_images_are_enlarged_for_pretrained_networks():
    assert plan(1e6, side=32)["features"].sizes == (128,)
    assert plan(1e6, side=8)["fine-tuned"].sizes == (32, 64)


def test_epochs_belong_to_sizes():
    ways = plan(1e6, side=64, max_epochs=9)
    assert ways["from-scratch"].epochs == (9, 9, 9)
    assert ways["fine-tuned"].epochs == (3, 8, 4, 4)
    assert ways["features"].epochs == ()


def test_with_a_number_of_candidates_the_time_does_not_matter():
    first, other = (plan(t, costs=None, n_candidates=5) for t in (1, 1e6))
    assert first == other
    assert {way.n_iter for way in first.values()} == {5}


def test_few_candidates_have_as_few_sizes():
    assert plan(costs=None, n_candidates=2)["from-scratch"].sizes == (32, 64)


def test_max_size():
    ways = plan(1e6, max_size=40)
    assert {way.sizes[-1] for way in ways.values()} == {40}


def test_the_only_way_is_taken_in_any_case():
    assert plan(1, ("fine-tuned",))["fine-tuned"].sizes == (32, 64)
    with pytest.raises(CommandError, match="no time for features or fine-tuned"):
        plan(1, ("features", "fine-tuned"))


@pytest.mark.parametrize("name", WAYS)
def test_ways_survive_json(name):
    way = plan(1e6)[name]
    assert Way.from_json(json.loads(json.dumps(way.to_json()))) == way


@pytest.mark.parametrize("name", WAYS)
def test_searches_have_what_the_plan_says(name):
    way = plan(1e6, max_epochs=2)[name]
    search = make_search(way, device="cpu", seed=3)
    assert (search.sizes, search.n_iter) == (way.sizes, way.n_iter)
    if way.epochs:
        assert search.stage_params == {"cnn__max_epochs": [*way.epochs]}
        assert search.estimator["cnn"].random_state == 3


def test_costs_are_measured(shapes):
    costs = measure_costs(list_images(shapes), "cpu", pretrained=False)
    assert costs.reading > 0
    assert costs.training > 0
    assert costs.features == 0


def test_costs_add_up():
    costs = Costs(reading=1.0, features=0.5, training=2.0)
    assert costs.compute_features(4) == 1 + 0.5 * 16
    assert costs.fine_tune((2, 4), (3, 1)) == 3 * (3 * (1 + 0.5 * 4) + (1 + 0.5 * 16))
    assert costs.predict(4, pretrained=True) == costs.compute_features(4)
    assert costs.predict(4, pretrained=False) == 1 + 1.5 * 2 * 16 / 3
    assert costs.train((2, 4), (3, 1)) == 2 + 1.5 * 2 * (3 * 4 + 16)
