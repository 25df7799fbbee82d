"""AR-GAN's players and their step: the discriminator learns, then the generator and the aperture renderer.

GAN, RGBD-GAN and AR-RGBD-GAN are the same players under other settings (`argan.config.SYSTEMS`): without rendering s is
always 0; viewpoints give the generator a camera and add the 3D consistency of two views.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from argan import distributed
from argan.config import TrainConfig
from argan.models import hub
from argan.models.aperture import ApertureRenderer, render_mixture, rendered_rows
from argan.models.discriminator import Discriminator
from argan.models.generator import Generator
from argan.training import diff_augment, losses, pictures
from argan.training.draws import draw_cameras, draw_scale
from argan.training.players import Players, Terms

GRID_SAMPLES = 16


class RenderingGenerator(nn.Module):
    """The generator and the renderer that it learns through; both are trained, averaged and shipped together."""

    def __init__(self, generator: Generator, renderer: ApertureRenderer):
        super().__init__()
        self.generator, self.renderer = generator, renderer


class Draws(NamedTuple):
    """The randomness of a batch, on the CPU; every tensor has one row a sample."""

    noise: Tensor
    scale: Tensor
    camera: Tensor | None = None
    augment_fake: Tensor | None = None
    augment_real: Tensor | None = None

    def part(self, rows: slice, device: torch.device, least: int = 0) -> "Part":
        """Of some samples, on the device; at least `least` of them are rendered."""
        own = Draws(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]
        opened = self.scale > 0
        share = opened[rows].float().mean() / opened.float().mean() if opened.any() else torch.ones(())
        extra = rendered_rows(own.scale, least), share
        return Part(*(None if x is None else x.to(device, non_blocking=True) for x in (*own, *extra)))  # type: ignore[arg-type]


class Part(NamedTuple):
    """The randomness of a part of a batch."""

    noise: Tensor
    scale: Tensor
    camera: Tensor | None
    augment_fake: Tensor | None
    augment_real: Tensor | None
    rendered: Tensor
    """Which samples are rendered; the others are deep images."""
    open_share: Tensor
    """Open lenses in proportion to the whole batch's, (): the regulariser of T is a mean over open lenses only."""


@dataclass(frozen=True)
class Scene:
    """What the generator makes of a part's draws: deep images, disparity, and what the discriminator is shown."""

    deep: Tensor
    disparity: Tensor
    shown: Tensor
    expansion: Tensor


class AperturePlayers(Players[RenderingGenerator, Discriminator]):
    """Generator and aperture renderer against one discriminator."""

    def __init__(self, config: TrainConfig, device: torch.device):
        model = config.model
        generator = RenderingGenerator(*hub.build_generator(model))
        discriminator = Discriminator(model.resolution, model.discriminator_width, model.blocks)
        super().__init__(config, device, generator, discriminator)

    def step(self, real: Tensor, step: int, rng: torch.Generator) -> dict[str, Tensor]:
        loss = self.config.loss
        penalise, consistent = step % loss.r1_interval == 0, step >= loss.consistency_start
        return self.play(step, self.turns, real, *self.parts(rng), penalise=penalise, consistent=consistent)

    def turns(self, real: Tensor, *parts: Part, penalise: bool, consistent: bool) -> dict[str, Tensor]:
        """What a step does on the device, which it waits for nowhere: it can be recorded."""
        photos = [self.photographs(*pair) for pair in zip(real.split(len(real) // len(parts)), parts, strict=True)]
        kept = self.make(parts[0]) if len(parts) == 1 else None  # several parts are made twice, to hold one at a time

        def judged(photo: Tensor, part: Part) -> Terms:
            with torch.no_grad():
                scene = kept or self.make(part)
            return self.discriminator_terms(photo, scene.shown.detach(), penalise)

        def made(photo: Tensor, part: Part) -> Terms:
            return self.generator_terms(photo, kept or self.make(part), part, consistent)

        return self.take_turns(map(judged, photos, parts), map(made, photos, parts))

    def draw(self, rng: torch.Generator) -> Draws:
        """Of the whole batch, on the CPU: every process draws the same."""
        model, loss, batch = self.config.model, self.config.loss, self.config.batch
        views = 2 if model.viewpoints else 1
        noise = torch.randn(batch // views, model.z_dim, generator=rng).repeat_interleave(views, dim=0)
        scale = draw_scale(batch, loss.mixture, rng)
        camera = draw_cameras(batch, model, rng) if model.viewpoints else None
        augment = [diff_augment.draw(batch, loss.augment, rng) for _ in range(2)] if loss.augment else [None, None]
        return Draws(noise, scale, camera, *augment)

    def parts(self, rng: torch.Generator) -> list[Part]:
        """The randomness of this process's share of a batch, part by part."""
        draws, rows, least = self.draw(rng), self.part_rows(), 0
        if self.graphs:  # few kinds of steps: every part renders as many, a multiple of an eighth of it
            most = max(int((draws.scale[part] > 0).count_nonzero()) for part in rows)
            eighth = -(-(rows[0].stop - rows[0].start) // 8)
            least = -(-most // eighth) * eighth
        return [draws.part(part, self.device, least) for part in rows]

    def part_rows(self) -> list[slice]:
        """Rows of the batch that this process works on, one part after the other."""
        own, count = distributed.share(self.config.batch), self.config.accumulate
        size = (own.stop - own.start) // count
        return [slice(own.start + k * size, own.start + (k + 1) * size) for k in range(count)]

    def make(self, draws: Part) -> Scene:
        """Deep image and disparity, and the mixture of deep and shallow images."""
        with self.autocast():
            deep, disparity = self.generator.generator(draws.noise, draws.camera)
        deep, disparity = deep.float(), disparity.float()
        if draws.augment_fake is None:
            return Scene(deep, disparity, *self.render(deep, disparity, draws))
        framed = diff_augment.reframe(torch.cat([deep, disparity], dim=1), draws.augment_fake).split([3, 1], dim=1)
        shown, expansion = self.render(framed[0], framed[1], draws)
        return Scene(deep, disparity, diff_augment.recolor(shown, draws.augment_fake), expansion)

    def render(self, deep: Tensor, disparity: Tensor, draws: Part) -> tuple[Tensor, Tensor]:
        """The mixture of deep and shallow images, and the regulariser of T; see `render_mixture`."""
        return render_mixture(self.generator.renderer, deep, disparity, draws.scale, draws.rendered)

    def judge(self, images: Tensor) -> Tensor:
        with self.autocast():
            return self.discriminator(images).float()

    def photographs(self, real: Tensor, draws: Part) -> Tensor:
        """As the discriminator is shown them."""
        if draws.augment_real is None:
            return real
        return diff_augment.recolor(diff_augment.reframe(real, draws.augment_real), draws.augment_real)

    def discriminator_terms(self, real: Tensor, fake: Tensor, penalise: bool) -> Terms:
        """What the discriminator minimises, on photographs and on the mixture of deep and shallow images."""
        loss = self.config.loss
        real_logits, fake_logits = self.judge(real), self.judge(fake)
        if loss.adversarial == "relativistic":
            adversarial = losses.relativistic_discriminator_loss(real_logits, fake_logits)
        else:
            adversarial = losses.discriminator_loss(real_logits, fake_logits)
        terms = {"d": adversarial, "real": real_logits.mean(), "fake": fake_logits.mean()}
        total = adversarial
        for name, weight, images in (("r1", loss.r1, real), ("r2", loss.r2, fake)):
            if weight and penalise:  # in float32: the penalty is a gradient of a gradient
                terms[name] = losses.gradient_penalty(self.discriminator, images)
                total = total + weight * loss.r1_interval * terms[name]
        return total, terms

    def generator_terms(self, real: Tensor, scene: Scene, draws: Part, consistent: bool) -> Terms:
        """What generator and renderer minimise."""
        loss, model = self.config.loss, self.config.model
        fake_logits = self.judge(scene.shown)
        if loss.adversarial == "relativistic":
            with torch.no_grad():
                real_logits = self.judge(real)
            adversarial = losses.relativistic_generator_loss(real_logits, fake_logits)
        else:
            adversarial = losses.generator_loss(fake_logits)
        prior = losses.prior_loss(scene.disparity, loss)
        smoothness = losses.smoothness_loss(scene.disparity, scene.deep, loss.edge_sensitivity)
        expansion = draws.open_share * scene.expansion
        total = adversarial + loss.prior * prior + loss.expansion * expansion + loss.smoothness * smoothness
        terms = {"g": adversarial, "prior": prior, "expansion": expansion, "smoothness": smoothness}
        if draws.camera is not None:
            consistency, compared = losses.consistency_loss(
                scene.deep, scene.disparity, draws.camera, model.aperture_step, loss.geometry
            )
            terms |= {"consistency": consistency, "compared": compared}
            if consistent:
                total = total + loss.consistency * consistency
        terms["disparity_std"] = scene.disparity.std(dim=(1, 2, 3)).mean()  # of one sample, whatever the batch
        return total, terms

    def save_samples(self, path: Path) -> None:
        """A picture of fixed samples: deep image, shallow image, depth."""
        rng = torch.Generator().manual_seed(self.config.seed)
        pictures.save_samples(
            self.average.module, torch.randn(GRID_SAMPLES, self.config.model.z_dim, generator=rng), path
        )

    def shown_model(self) -> tuple[hub.Config, dict[str, Tensor]]:
        """What is shown, measured and shipped: the averaged generator and renderer."""
        config = hub.Config(self.config.name, generator=self.config.model, mixture=self.config.loss.mixture)
        return config, self.average.module.state_dict()
