"""Which players a run's settings call for."""

import torch

from argan.config import TrainConfig
from argan.training.cyclegan import CyclePlayers
from argan.training.gan import AperturePlayers
from argan.training.players import Players


def make_players(config: TrainConfig, device: torch.device) -> Players:
    """Freshly initialised from `config.seed`."""
    torch.manual_seed(config.seed)
    return CyclePlayers(config, device) if config.players == "cycle" else AperturePlayers(config, device)
