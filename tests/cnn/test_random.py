"""Random numbers of one fit, whatever other threads draw."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sklearn_iis.cnn._random import TorchRandom

CPU = torch.device("cpu")


def test_torch_draws_what_a_generator_of_its_own_would():
    """In pieces; what is drawn in between is as if nothing had been lent."""
    torch.manual_seed(1)
    random, outside, inside = TorchRandom(7), [], []
    for _ in range(4):
        outside.append(torch.rand(1))
        with random.lent():
            inside.append(torch.rand(1))
    generator = torch.Generator().manual_seed(7)
    expected = [torch.rand(1, generator=generator) for _ in range(4)]
    assert torch.equal(torch.cat(inside), torch.cat(expected))
    torch.manual_seed(1)
    assert torch.equal(torch.cat(outside), torch.cat([torch.rand(1) for _ in range(4)]))


def test_an_error_gives_the_generator_back():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), TorchRandom(0).lent():
        torch.rand(-1)
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_of_threads_are_apart():
    def draw(seed):
        random = TorchRandom(seed)
        numbers = []
        for _ in range(200):
            with random.lent():
                numbers.append(torch.rand(3))
        return torch.cat(numbers)

    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, [0, 1] * 4))
    for i, numbers in enumerate(drawn):
        assert torch.equal(numbers, draw(i % 2))


def test_a_generator_of_ones_own_goes_on_where_it_stopped():
    """Whatever others draw meanwhile; it is another stream than that which is lent."""
    random, drawn = TorchRandom(3), []
    before = torch.get_rng_state()
    for _ in range(3):
        with random.generator(CPU) as generator:
            drawn.append(torch.rand(1, generator=generator))
        with random.lent():
            assert torch.rand(1) != drawn[-1]
    generator = torch.Generator().manual_seed(4)
    assert drawn == [torch.rand(1, generator=generator) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    copy = pickle.loads(pickle.dumps(random))
    with copy.generator(CPU) as own:
        assert torch.rand(1, generator=own) == torch.rand(1, generator=generator)


def test_streams_may_be_lent_within_each_other():
    outer, inner = TorchRandom(0), TorchRandom(1)
    with outer.lent():
        first = torch.rand(1)
        with inner.lent():
            torch.rand(1)
        second = torch.rand(1)
    generator = torch.Generator().manual_seed(0)
    assert [first, second] == [torch.rand(1, generator=generator) for _ in range(2)]
