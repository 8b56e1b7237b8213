"""Parts of a loss at the same time give what they give one after the other, to the same bits on any number of cores."""

import threading

import pytest
import torch

from extensions.lora.training.losses import sum_in_parallel


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def layers():
    torch.manual_seed(0)
    return torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(64, 64), torch.nn.Linear(2, 2)])


def parts_of(network):
    first, second, _unused = network

    def part(seed):
        drawn = torch.randn(256, 64, generator=torch.Generator().manual_seed(seed))
        return second(first(drawn).relu()).square().mean() if seed else first(drawn).square().mean()

    return [lambda seed=seed: part(seed) for seed in range(3)]


def gradients(network):
    return [parameter.grad for parameter in network.parameters()]


def test_the_gradient_is_that_of_the_sum():
    network, other = layers(), layers()
    loss = sum_in_parallel(parts_of(network), tuple(network.parameters()))
    (2 * loss).backward()
    plain = sum(part() for part in parts_of(other))
    (2 * plain).backward()
    torch.testing.assert_close(loss, plain)
    for found, expected in zip(gradients(network), gradients(other), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected)


def test_cores_change_no_bit(threads):
    found = []
    for count in (1, 2, 3):
        threads(count)
        network = layers()
        sum_in_parallel(parts_of(network), tuple(network.parameters())).backward()
        found.append(gradients(network)[:4])
        assert torch.get_num_threads() == count
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


def test_parts_run_at_the_same_time_in_the_number_type_of_whoever_asks(threads):
    threads(2)
    weight, together = torch.ones(8, 8, requires_grad=True), threading.Barrier(2, timeout=60)

    def part():
        together.wait()  # breaks where the other does not come
        product = weight @ weight
        assert product.dtype == torch.bfloat16
        return product.float().sum()

    with torch.autocast("cpu", torch.bfloat16):
        sum_in_parallel([part, part], (weight,)).backward()
    assert weight.grad is not None


def test_what_goes_wrong_in_a_part_is_told(threads):
    threads(2)

    def broken():
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        sum_in_parallel([broken, broken], (torch.ones(1, requires_grad=True),))
    assert torch.get_num_threads() == 2
