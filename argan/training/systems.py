"""Which players a run's settings call for."""

import torch

from argan.config import TrainConfig, refuse_seed
from argan.errors import UsageError
from argan.training.cyclegan import CyclePlayers
from argan.training.gan import AperturePlayers
from argan.training.players import Players


def make_players(config: TrainConfig, device: torch.device) -> Players:
    """Freshly initialised from `config.seed`.

    Raises:
        UsageError: sizes that no network can have, or a seed that is none.
    """
    refuse_seed(config.seed)
    torch.manual_seed(config.seed)
    try:
        return CyclePlayers(config, device) if config.players == "cycle" else AperturePlayers(config, device)
    except ValueError as error:
        raise UsageError(str(error)) from None
