"""What chance decides has the distribution that it is said to have."""

import pytest
import torch

from argan.config import ModelConfig
from argan.training.draws import draw_cameras, draw_scale, draw_views, step_seed


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_steps_are_seeded_apart():
    assert len({step_seed(seed, step) for seed in range(3) for step in range(100)}) == 300


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
