import pickle
from copy import deepcopy

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.svm import SVC

from sklearn_iis import SearchSpace
from sklearn_iis.space import is_log, make_dimension

UNHASHABLE = {
    "dicts": [{"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": (1,)}],
    "lists": [[1, 2], [2, 1], [1], [1.0], [[1], 2], []],
    "arrays": [
        np.array([1, 2]),
        np.array([1, 3]),
        np.array([[1, 2]]),
        np.array([np.nan, 1.0]),
        np.array([]),
        np.array(["a", "b"]),
        1,
    ],
    "mixed": [None, {"x": np.array([1, 2])}, {"x": np.array([2, 2])}, [SVC()], "x"],
    "sparse": [sparse.eye(2, format="csr"), sparse.eye(3, format="csr")],
    "estimators": [SVC(), SVC(C=2.0)],
}

BINOMIAL = stats.binom(12, 0.3)


@pytest.mark.parametrize(
    "distribution",
    [stats.uniform(-3, 5), stats.loguniform(1e-7, 1e-2), stats.norm(2, 3)],
)
def test_codes_of_a_continuous_distribution_are_quantiles(distribution):
    dimension = make_dimension("x", distribution)
    for quantile in (0.05, 0.5, 0.9):
        value = dimension.decode(quantile)
        assert value == distribution.ppf(quantile)
        assert type(value) is float
        assert dimension.encode(value) == pytest.approx(quantile)


@pytest.mark.parametrize(
    "distribution",
    [
        stats.expon(scale=0.3),
        stats.loguniform(1e-7, 1e-2),
        stats.norm(2, 3),
        stats.beta(50, 50),
    ],
)
def test_a_value_that_was_written_down_is_kept(distribution):
    """Its quantile alone stands for another one, as computing it rounds."""
    dimension = make_dimension("x", distribution)
    low, high = dimension.range
    values = np.linspace(low, high, 50).tolist()
    decoded = [dimension.decode(float(dimension.encode(v))) for v in values]
    assert decoded != values
    for value in values:
        code = dimension.encode(value)
        assert dimension.low <= code <= dimension.high
        for same in (code, dimension.clip(code), deepcopy(code), _send(code)):
            assert dimension.decode(same) == value
            assert same == code == float(code)
            assert hash(same) == hash(float(code))
        assert type(dimension.decode(code)) is float


def _send(code):
    return pickle.loads(pickle.dumps(code))


def test_tails_without_bounds_are_cut_off():
    dimension = make_dimension("x", stats.norm())
    assert dimension.range == pytest.approx((-4.7534, 4.7534), abs=1e-4)
    assert make_dimension("x", stats.expon()).range[0] == 0


def test_continuous_values_follow_the_prior_within_the_window():
    dimension = make_dimension("x", stats.norm())
    rng = np.random.RandomState(0)
    values = [dimension.decode(dimension.rvs(rng)) for _ in range(2000)]
    assert stats.kstest(values, "norm").pvalue > 0.01
    narrowed = dimension.narrow([0.5, 0.75], margin=0, floor=0)
    values = [narrowed.decode(narrowed.rvs(rng)) for _ in range(2000)]
    window = stats.truncnorm(0, stats.norm.ppf(0.75))
    assert stats.kstest(values, window.cdf).pvalue > 0.01


@pytest.mark.parametrize("codes", [None, [3, 5], [0, 1], [10, 12]])
def test_discrete_values_follow_the_prior_within_the_window(codes):
    dimension = make_dimension("x", BINOMIAL)
    if codes is not None:
        dimension = dimension.narrow(codes, margin=0, floor=0)
    rng = np.random.RandomState(1)
    n_draws = 4000
    observed = np.bincount([dimension.rvs(rng) for _ in range(n_draws)], minlength=13)
    window = np.arange(dimension.low, dimension.high + 1)
    assert observed[window].sum() == n_draws
    expected = BINOMIAL.pmf(window)
    expected *= n_draws / expected.sum()
    likely = expected > 5
    counts = np.append(observed[window][likely], observed[window][~likely].sum())
    expected = np.append(expected[likely], expected[~likely].sum())
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 0.01


def test_choices_are_equally_likely():
    dimension = make_dimension("x", ["a", "b", "c"])
    rng = np.random.RandomState(0)
    observed = np.bincount([dimension.rvs(rng) for _ in range(3000)])
    assert stats.chisquare(observed).pvalue > 0.01


def test_numbers_are_ordered_and_nothing_else():
    assert make_dimension("x", [128, 16, 64, 32]).levels == (16, 32, 64, 128)
    for choices in (["b", "a"], [True, False], [None, 3], [(2,), (1,)]):
        dimension = make_dimension("x", choices)
        assert not dimension.ordered
        assert list(dimension.levels) == choices


def test_narrow_continuous_by_hand():
    dimension = make_dimension("x", stats.uniform(0, 10))
    good = [0.30, 0.45]
    narrowed = dimension.narrow(good, margin=0.05, floor=0)
    assert narrowed.range == pytest.approx((2.5, 5))
    # Widened around the middle to the floor, and moved back inside the window.
    narrowed = dimension.narrow(good, margin=0.05, floor=0.5)
    assert narrowed.range == pytest.approx((1.25, 6.25))
    narrowed = dimension.narrow([0.95], margin=0, floor=0.4)
    assert narrowed.range == pytest.approx((6, 10))


def test_narrow_discrete_by_hand():
    dimension = make_dimension("x", [16, 32, 64, 128])
    assert dimension.narrow([1, 2], margin=0, floor=0).range == (32, 64)
    # A part of a value's cell is enough to keep it.
    assert dimension.narrow([1, 2], margin=0.1, floor=0).range == (16, 128)
    # One value alone would be no range.
    assert dimension.narrow([2], margin=0, floor=0).range == (32, 128)
    unordered = make_dimension("x", ["a", "b", "c"])
    assert unordered.narrow([0], margin=0, floor=0).range == ("a", "b", "c")


def test_values_of_a_wide_range_are_found_without_counting():
    dimension = make_dimension("x", stats.randint(0, 10**9))
    assert dimension.encode(np.float64(123456789)) == 123456789
    assert dimension.decode(123456789) == 123456789
    assert 0 <= dimension.rvs(0) < 10**9
    with pytest.raises(ValueError, match=r"0\.5 is none of range"):
        dimension.encode(0.5)


def test_distributions_without_parameters_need_not_be_frozen():
    assert make_dimension("x", stats.uniform).range == (0, 1)
    gaps = stats.rv_discrete(values=([1, 5, 9], [0.2, 0.5, 0.3]))
    assert make_dimension("x", gaps).levels == (1, 5, 9)


def test_values_are_those_of_python():
    for values in (np.array([0.1, 0.2]), stats.randint(1, 3), np.array(["a", "b"])):
        dimension = make_dimension("x", values)
        for code in (0, 1):
            assert type(dimension.decode(code)) in (int, float, str)


def test_shifted_discrete_distributions():
    gaps = stats.rv_discrete(values=([1, 5, 9], [0.2, 0.5, 0.3]))
    assert make_dimension("x", gaps(loc=10)).levels == (11, 15, 19)
    assert make_dimension("x", stats.randint(1, 3, loc=10)).levels == (11, 12)
    with pytest.raises(ValueError, match="x: the distribution has no values"):
        make_dimension("x", stats.randint(1, 5, loc=0.5))


def test_equal_choices_of_different_types_are_different():
    dimension = make_dimension("max_features", [1.0, 1, 2])
    for code, value in enumerate(dimension.levels):
        assert dimension.encode(value) == code
    assert dimension.encode(2.0) == 2


def test_a_window_of_many_levels_is_not_left_by_rounding():
    rng = np.random.RandomState(0)
    for last in rng.randint(10**8, 10**9, size=300):
        dimension = make_dimension("x", stats.randint(0, 10**9))
        window = dimension.narrow([0, int(last)], margin=0, floor=0)
        assert window.narrow([0, window.high], margin=0.1, floor=0).high <= window.high


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (stats.loguniform(1e-4, 1), True),
        (stats.loguniform(1, 2), True),
        (stats.lognorm(s=2), True),
        ([16, 32, 64, 128], True),
        ([1e-3, 1e-2, 1e-1], True),
        (stats.uniform(0, 1), False),
        (stats.uniform(1, 1000), False),
        (stats.norm(), False),
        (stats.randint(8, 129), False),
        ([1, 2, 3], False),
        ([1, 100], False),
        ([-1, 0, 1], False),
        (["a", "b", "c"], False),
        ([True, False], False),
    ],
)
def test_log_scale_follows_the_prior(values, expected):
    assert is_log(make_dimension("x", values)) is expected


def test_a_narrowed_range_has_the_scale_of_the_whole():
    space = SearchSpace({"x": stats.loguniform(1e-4, 1), "n": stats.randint(1, 100)})
    narrowed = space.narrow([{"x": 0.5, "n": 50}], margin=0.1)
    assert is_log(narrowed.dimensions["x"])
    assert not is_log(narrowed.dimensions["n"])


@pytest.mark.parametrize("bounds", [(0, 2**62), (-(2**61), 2**61), (1, 2**62 + 1)])
def test_wide_integers_are_exact(bounds):
    low, high = bounds
    dimension = make_dimension("x", stats.randint(low, high))
    n = high - low
    for code in (0, 1, 2**53 + 1, n - 513, n - 2, n - 1):
        assert dimension.decode(code) == low + code
        assert dimension.encode(low + code) == code
        assert dimension.clip(code) == code
        narrowed = dimension.narrow([code], margin=0.0, floor=0.0)
        assert narrowed.clip(code) == code
    for seed in range(20):
        code = dimension.rvs(seed)
        assert dimension.clip(code) == code
    assert not is_log(dimension)


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ((0, 2**62 + 2), "(0, 4611686018427387905)"),
        ((-(2**62), 2), "(-4611686018427387904, 1)"),
        ((2**62, 2**62 + 2), "(4611686018427387904, 4611686018427387905)"),
        ((0, 2**64), "(0, 18446744073709551616)"),
    ],
)
def test_integers_that_are_not_exact_are_refused(bounds, shown):
    with pytest.raises(ValueError, match=r"^x: the range .* is too wide") as error:
        make_dimension("x", stats.randint(*bounds))
    assert shown in str(error.value)


@pytest.mark.parametrize("kind", UNHASHABLE)
def test_choices_may_be_unhashable(kind):
    """Each is found by an equal value, that is not the same object."""
    values = UNHASHABLE[kind]
    dimension = make_dimension("x", values)
    assert not dimension.ordered
    for code, value in enumerate(values):
        assert dimension.decode(code) is value
        assert dimension.encode(deepcopy(value)) == code
    with pytest.raises(ValueError, match="is none of"):
        dimension.encode([{"a": np.array([1, 2, 3])}])


@pytest.mark.parametrize(
    "values",
    [
        [[1], [2], [1]],
        [{"a": np.array([1.0, np.nan])}, {"a": np.array([1.0, np.nan])}],
        [np.arange(3), 1, np.arange(3)],
    ],
)
def test_repeated_choices_are_found(values):
    with pytest.raises(ValueError, match="x: a choice stands twice"):
        make_dimension("x", values)


@pytest.mark.parametrize("values", [[1, 2, 4, 8, 16], stats.uniform(0, 2), list("abc")])
def test_fractions_of_the_window_are_codes_again(values):
    whole = make_dimension("name", values)
    for dimension in (whole, whole.narrow([whole.middle], 0.1, 0.2)):
        for code in (dimension.low, dimension.middle, dimension.high):
            assert dimension.from_unit(dimension.unit(code)) == pytest.approx(code)
        assert dimension.from_unit(0.0) == dimension.low
        assert dimension.from_unit(1.0) == dimension.high


def test_each_value_has_an_equal_part_of_the_window():
    dimension = make_dimension("name", list(range(10))).narrow([3, 5], 0, 0)
    codes = [dimension.from_unit((i + 0.5) / 30) for i in range(30)]
    assert codes == [3] * 10 + [4] * 10 + [5] * 10
