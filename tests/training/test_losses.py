"""Each term of the objective against its formula."""

import pytest
import torch

from argan.config import LossConfig, ModelConfig
from argan.metrics import centre_prior
from argan.models.discriminator import Discriminator
from argan.training import losses
from argan.training.ema import Average


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_scales_follow_their_distribution():
    bernoulli = losses.draw_scale(4000, "bernoulli", rng())
    assert set(bernoulli.tolist()) == {0.0, 1.0}
    assert abs(bernoulli.mean() - 0.5) < 0.03
    uniform = losses.draw_scale(4000, "uniform", rng())
    assert abs(uniform.mean() - 0.5) < 0.03
    assert abs(uniform.var() - 1 / 12) < 0.01
    assert losses.draw_scale(3, "deep", rng()).tolist() == [0, 0, 0]
    assert losses.draw_scale(3, "shallow", rng()).tolist() == [1, 1, 1]


def test_adversarial_losses_are_the_logistic_ones():
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([0.2, 2.0])
    torch.testing.assert_close(losses.generator_loss(fake), -torch.sigmoid(fake).log().mean())
    expected = -torch.sigmoid(real).log().mean() - (1 - torch.sigmoid(fake)).log().mean()
    torch.testing.assert_close(losses.discriminator_loss(real, fake), expected)


def test_gradient_penalty_is_half_the_squared_gradient():
    class Linear(torch.nn.Module):
        def forward(self, x):
            return 3 * x.sum(dim=(1, 2, 3))

    penalty = losses.gradient_penalty(Linear(), torch.rand(2, 3, 4, 4))
    torch.testing.assert_close(penalty, torch.tensor(0.5 * 9 * 48))


def test_gradient_penalty_reaches_the_discriminator():
    discriminator = Discriminator(16, width=8)
    losses.gradient_penalty(discriminator, torch.rand(4, 3, 16, 16)).backward()
    assert discriminator.blocks["8"].weight.grad.abs().sum() > 0


def test_prior_is_flat_in_the_middle_and_recedes_outside():
    prior = centre_prior(torch.zeros(64, 64), radius=0.25)[0, 0]
    assert prior[24:40, 24:40].abs().max() == 0
    torch.testing.assert_close(prior[0, 0], torch.tensor(-(31.5 * 2**0.5 - 16)))
    torch.testing.assert_close(prior, prior.flip(0))


def test_prior_loss_means_the_same_at_every_resolution():
    config = LossConfig(prior_radius=0.2, prior_slope=0.1)
    small, large = (losses.prior_loss(torch.zeros(1, 1, size, size), config) for size in (32, 128))
    torch.testing.assert_close(small, large, rtol=0.05, atol=0)
    assert small > 0
    assert losses.prior_loss(0.1 * centre_prior(torch.zeros(32, 32), radius=0.2), config) == 0


def test_smoothness_forgives_depth_edges_on_image_edges():
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    flat, edge = torch.zeros(1, 3, 8, 8), step.expand(-1, 3, -1, -1)
    assert losses.smoothness_loss(step, edge) < 0.01 * losses.smoothness_loss(step, flat)
    assert losses.smoothness_loss(torch.ones(1, 1, 8, 8), flat) == 0
    torch.testing.assert_close(losses.smoothness_loss(step, edge), losses.smoothness_loss(step, 1 - edge))
    torch.testing.assert_close(losses.smoothness_loss(step.mT, flat), losses.smoothness_loss(step, flat))


def test_smoothness_changes_depth_and_not_the_image():
    disparity, image = torch.rand(1, 1, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8, requires_grad=True)
    losses.smoothness_loss(disparity, image).backward()
    assert disparity.grad.abs().sum() > 0
    assert image.grad is None


def test_cameras_are_anywhere_in_their_range_and_pairs_not_far_apart():
    model = ModelConfig(yaw=3.0, pitch=0.2)
    first, second = losses.draw_cameras(8000, model, rng()).unflatten(0, (-1, 2)).unbind(1)
    limits = torch.tensor([0.2, 3.0])
    assert (first.abs() <= limits).all()
    assert (first.mean(0).abs() < 0.05 * limits).all()
    assert ((first.var(0) / limits**2 - 1 / 3).abs() < 0.03).all()
    move = second - first
    assert (move.abs() <= torch.tensor([0.1, 0.5]) + 1e-6).all()
    assert (move * first <= 0).all()  # towards the front


@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_sample_has_its_camera_where_there_are_viewpoints(count):
    assert losses.draw_views(count, ModelConfig(yaw=0.5), rng()).shape == (count, 2)
    assert losses.draw_views(count, ModelConfig(), rng()) is None


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
