"""The average of the weights follows them with its half-life."""

import pytest
import torch

from argan.training.ema import Average


def test_average_follows_with_its_half_life():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = Average(module, half_life=64)
    torch.nn.init.ones_(module.weight)
    average.update(module, batch=64, step=10_000)
    assert average.module.weight.item() == pytest.approx(0.5)
    torch.nn.init.zeros_(module.weight)
    average.update(module, batch=32, step=10_000)
    assert average.module.weight.item() == pytest.approx(0.5 * 0.5**0.5)


def test_average_is_to_be_shown_and_has_the_buffers_of_now():
    module = torch.nn.BatchNorm1d(2)
    average = Average(module, half_life=64)
    module.running_mean.fill_(3)
    average.update(module, batch=8, step=0)
    assert average.module.running_mean.eq(3).all()
    assert not average.module.training and module.training
    assert not any(x.requires_grad for x in average.module.parameters())


def test_average_forgets_the_start_soon():
    """A twentieth of the images that were seen, while that is less than the half-life."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = Average(module, half_life=1e6)
    torch.nn.init.ones_(module.weight)
    average.update(module, batch=8, step=39)
    assert average.module.weight.item() == pytest.approx(1 - 0.5 ** (1 / 2))
