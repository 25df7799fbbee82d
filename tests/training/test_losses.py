"""Each term of the objective against its formula."""

import torch

from argan.config import LossConfig
from argan.metrics import centre_prior
from argan.models.discriminator import Discriminator
from argan.training import losses


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


def test_smoothness_weighs_an_edge_by_the_mean_change_of_its_channels():
    disparity, image = torch.zeros(1, 1, 2, 4), torch.full((1, 3, 2, 4), 0.6)
    disparity[..., 2:] = 0.5
    image[..., 2:] += torch.tensor([0.3, -0.6, 0.0]).view(3, 1, 1)
    expected = 0.5 * torch.tensor(-2.0 * 0.3).exp() / 3  # of three differences along a row, one
    torch.testing.assert_close(losses.smoothness_loss(disparity, image, edge_sensitivity=2.0), expected)
    expected = 0.5 * torch.tensor(-10.0 * 0.3).exp() / 3
    torch.testing.assert_close(losses.smoothness_loss(disparity, image), expected)


def test_smoothness_changes_depth_and_not_the_image():
    disparity, image = torch.rand(1, 1, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8, requires_grad=True)
    losses.smoothness_loss(disparity, image).backward()
    assert disparity.grad.abs().sum() > 0
    assert image.grad is None
