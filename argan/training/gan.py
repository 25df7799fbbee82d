"""One adversarial training step: the discriminator learns, then the generator and the aperture renderer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from argan.config import TrainConfig
from argan.models.aperture import ApertureRenderer, render_mixture
from argan.models.discriminator import Discriminator
from argan.models.generator import Generator
from argan.models.hub import build_generator
from argan.training import losses
from argan.training.ema import Average

BETAS = (0.0, 0.99)  # of Adam: no momentum, as usual in adversarial training


class RenderingGenerator(nn.Module):
    """The generator and the renderer that it learns through; both are trained, averaged and shipped together."""

    def __init__(self, generator: Generator, renderer: ApertureRenderer):
        super().__init__()
        self.generator, self.renderer = generator, renderer


@dataclass
class Players:
    """All that a step changes."""

    generator: RenderingGenerator
    discriminator: Discriminator
    average: Average
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam


def make_players(config: TrainConfig, device: torch.device) -> Players:
    """Freshly initialised from `config.seed`."""
    torch.manual_seed(config.seed)
    generator = RenderingGenerator(*build_generator(config.model)).to(device)
    discriminator = Discriminator(config.model.resolution, config.model.discriminator_width).to(device)
    return Players(
        generator,
        discriminator,
        Average(generator, config.ema_images),
        torch.optim.Adam(generator.parameters(), lr=config.generator_lr, betas=BETAS),
        torch.optim.Adam(discriminator.parameters(), lr=config.discriminator_lr, betas=BETAS),
    )


def train_step(
    players: Players, real: Tensor, config: TrainConfig, step: int, rng: torch.Generator
) -> dict[str, Tensor]:
    """real (B, 3, S, S) -> the step's losses, detached. All randomness comes from `rng` (CPU)."""
    loss = config.loss
    generator, renderer = players.generator.generator, players.generator.renderer
    discriminator = players.discriminator
    device, batch = real.device, len(real)
    networks = torch.autocast(device.type, torch.bfloat16, enabled=use_bfloat16(config, device))

    z = torch.randn(batch, generator.z_dim, generator=rng).to(device)
    scale = losses.draw_scale(batch, loss, rng).to(device)
    with networks:
        deep, disparity = generator(z)
    deep, disparity = deep.float(), disparity.float()
    fake, expansion = render_mixture(renderer, deep, disparity, scale)

    # Discriminator, on photographs and on the mixture of deep and shallow images.
    with networks:
        real_logits, fake_logits = discriminator(real).float(), discriminator(fake.detach()).float()
    adversarial_d = losses.discriminator_loss(real_logits, fake_logits)
    stats = {"d": adversarial_d, "real": real_logits.mean(), "fake": fake_logits.mean()}
    penalty = torch.zeros((), device=device)
    if loss.r1 and step % loss.r1_interval == 0:
        penalty = losses.gradient_penalty(discriminator, real)
        stats["r1"] = penalty
    players.discriminator_optimizer.zero_grad(set_to_none=True)
    (adversarial_d + loss.r1 * loss.r1_interval * penalty).backward()
    players.discriminator_optimizer.step()

    # Generator and renderer, judged by the discriminator that has just learned.
    discriminator.requires_grad_(False)
    with networks:
        adversarial_g = losses.generator_loss(discriminator(fake).float())
    prior = losses.prior_loss(disparity, loss)
    smoothness = losses.smoothness_loss(disparity, deep, loss.edge_sensitivity)
    total = adversarial_g + loss.prior * prior + loss.expansion * expansion + loss.smoothness * smoothness
    players.generator_optimizer.zero_grad(set_to_none=True)
    total.backward()
    players.generator_optimizer.step()
    discriminator.requires_grad_(True)
    players.average.update(players.generator, batch, step)

    stats |= {"g": adversarial_g, "prior": prior, "expansion": expansion, "smoothness": smoothness}
    stats["disparity_std"] = disparity.std()
    return {name: value.detach() for name, value in stats.items()}


def use_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the networks run in bfloat16 on this device."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"
