"""What chance decides has the distribution that it is said to have."""

import numpy as np
import pytest
import torch

from argan.config import ModelConfig
from argan.training.draws import draw_cameras, draw_scale, draw_views, step_seed


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_what_is_drawn_differs_by_seed_and_by_step():
    """The draws, not the numbers that they are seeded with: PyTorch looks at 32 bits of these."""

    def drawn(seed: int, step: int) -> tuple[float, ...]:
        return tuple(torch.rand(3, generator=torch.Generator().manual_seed(step_seed(seed, step))).tolist())

    seeds = [0, 1, 2, 3, 12345, 2**31, 2**32 - 1]
    assert len({drawn(seed, step) for seed in seeds for step in range(100)}) == 100 * len(seeds)


def test_stretches_of_other_seeds_are_far_away():
    """Of one sequence, by the distance round it either way: no run takes up another's where that one begins."""
    starts = [step_seed(seed, 0) for seed in range(10_000)]
    apart = np.diff(np.sort(starts), append=min(starts) + 2**32)
    assert apart.min() >= 341_411


def test_scales_follow_their_distribution():
    bernoulli = draw_scale(4000, "bernoulli", rng())
    assert set(bernoulli.tolist()) == {0.0, 1.0}
    assert abs(bernoulli.mean() - 0.5) < 0.03
    uniform = draw_scale(4000, "uniform", rng())
    assert abs(uniform.mean() - 0.5) < 0.03
    assert abs(uniform.var() - 1 / 12) < 0.01
    assert draw_scale(3, "deep", rng()).tolist() == [0, 0, 0]
    assert draw_scale(3, "shallow", rng()).tolist() == [1, 1, 1]


def test_cameras_are_anywhere_in_their_range_and_pairs_not_far_apart():
    model = ModelConfig(yaw=3.0, pitch=0.2)
    first, second = draw_cameras(8000, model, rng()).unflatten(0, (-1, 2)).unbind(1)
    limits = torch.tensor([0.2, 3.0])
    assert (first.abs() <= limits).all()
    assert (first.mean(0).abs() < 0.05 * limits).all()
    assert ((first.var(0) / limits**2 - 1 / 3).abs() < 0.03).all()
    move = second - first
    assert (move.abs() <= torch.tensor([0.1, 0.5]) + 1e-6).all()
    assert (move * first <= 0).all()  # towards the front


@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_sample_has_its_camera_where_there_are_viewpoints(count):
    assert draw_views(count, ModelConfig(yaw=0.5), rng()).shape == (count, 2)
    assert draw_views(count, ModelConfig(), rng()) is None
