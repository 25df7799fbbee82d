"""CycleGAN's players (Zhu et al., ICCV 2017): deep-focus photographs to shallow ones and back, unpaired.

The baseline of AR-GAN-DR: it learns what shallow photographs look like, but no depth, and nothing ties its colours to
the photo's. Differences from the paper: the discriminator, its logistic loss and R1 are AR-GAN's, which leave the
translators as the only difference between the two, and there is no pool of earlier images.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from argan.config import TrainConfig
from argan.models import hub
from argan.models.discriminator import Discriminator
from argan.models.translator import Translator
from argan.training import losses, pictures
from argan.training.players import Players, Terms

GRID_PHOTOS = 8


class Translators(nn.Module):
    """The two directions, trained together."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.translator = Translator(width, blocks)  # deep to shallow: the one that is shown and shipped
        self.back = Translator(width, blocks)


class Judges(nn.Module):
    """One discriminator for each domain."""

    def __init__(self, resolution: int, width: int, blocks: str):
        super().__init__()
        self.deep, self.shallow = (Discriminator(resolution, width, blocks) for _ in range(2))


class CyclePlayers(Players[Translators, Judges]):
    """Two translators against two discriminators. Photographs alternate, deep, shallow, … (`argan.data.domains`)."""

    def __init__(self, config: TrainConfig, device: torch.device):
        model = config.model
        translators = Translators(config.translator.width, config.translator.blocks)
        judges = Judges(model.resolution, model.discriminator_width, model.blocks)
        super().__init__(config, device, translators, judges)
        self.seen: Tensor | None = None

    def step(self, real: Tensor, step: int, rng: torch.Generator) -> dict[str, Tensor]:
        self.seen = real[0::2]
        return self.play(step, self.turns, real, penalise=step % self.config.loss.r1_interval == 0)

    def turns(self, real: Tensor, penalise: bool) -> dict[str, Tensor]:
        """What a step does on the device, which it waits for nowhere: it can be recorded."""
        parts = [(part[0::2], part[1::2]) for part in real.split(len(real) // self.config.accumulate)]
        judged = (self.discriminator_terms(deep, shallow, penalise) for deep, shallow in parts)
        made = (self.generator_terms(deep, shallow) for deep, shallow in parts)
        return self.take_turns(judged, made)

    def discriminator_terms(self, deep: Tensor, shallow: Tensor, penalise: bool) -> Terms:
        """What the two discriminators minimise."""
        loss, judges = self.config.loss, self.discriminator
        with torch.no_grad(), self.autocast():
            to_shallow, to_deep = self.generator.translator(deep).float(), self.generator.back(shallow).float()
        domains = ((judges.deep, deep, to_deep), (judges.shallow, shallow, to_shallow))
        with self.autocast():
            logits = [(judge(real).float(), judge(fake).float()) for judge, real, fake in domains]
        adversarial = sum((losses.discriminator_loss(real, fake) for real, fake in logits), start=deep.new_zeros(()))
        terms = {"d": adversarial}
        total = adversarial
        if loss.r1 and penalise:
            terms["r1"] = sum(
                (losses.gradient_penalty(judge, real) for judge, real, _ in domains), start=deep.new_zeros(())
            )
            total = total + loss.r1 * loss.r1_interval * terms["r1"]
        return total, terms

    def generator_terms(self, deep: Tensor, shallow: Tensor) -> Terms:
        """What the two translators minimise."""
        loss, forth, back = self.config.loss, self.generator.translator, self.generator.back
        judges = self.discriminator
        with self.autocast():
            to_shallow, to_deep = forth(deep), back(shallow)
            deep_again, shallow_again = back(to_shallow).float(), forth(to_deep).float()
            deep_kept, shallow_kept = back(deep).float(), forth(shallow).float()
            logits = judges.shallow(to_shallow).float(), judges.deep(to_deep).float()
        terms = {
            "g": losses.generator_loss(logits[0]) + losses.generator_loss(logits[1]),
            "cycle": (deep_again - deep).abs().mean() + (shallow_again - shallow).abs().mean(),
            "identity": (deep_kept - deep).abs().mean() + (shallow_kept - shallow).abs().mean(),
        }
        return terms["g"] + loss.cycle * terms["cycle"] + loss.identity * terms["identity"], terms

    @torch.no_grad()
    def save_samples(self, path: Path) -> None:
        """Deep photographs of the last step, and what becomes of them."""
        if self.seen is not None:
            photos = self.seen[:GRID_PHOTOS].float()
            pictures.save_picture([photos, self.average.module.translator(photos)], path)

    def shown_model(self) -> tuple[hub.Config, dict[str, Tensor]]:
        """The averaged translator from deep to shallow."""
        return hub.Config(self.config.name, translator=self.config.translator), {
            f"translator.{name}": x for name, x in self.average.module.translator.state_dict().items()
        }
