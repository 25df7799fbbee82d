"""What all systems' players share: two networks that learn against each other, and how a step updates them."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from argan import distributed
from argan.config import NetworkPrecision, TrainConfig
from argan.models import hub
from argan.training.ema import Average
from argan.training.graphs import Graphs, Input

BETAS = (0.0, 0.99)  # of Adam: no momentum, as usual in adversarial training

Made = TypeVar("Made", bound=nn.Module)
Judge = TypeVar("Judge", bound=nn.Module)
Network = TypeVar("Network", bound=nn.Module)
Terms = tuple[Tensor, dict[str, Tensor]]  # what is minimised, and what to report of it


class Players(ABC, Generic[Made, Judge]):
    """All that training changes.

    Args:
        config: the run's settings.
        device: where the step runs.
        generator, discriminator: freshly initialised; each may hold several networks.

    Attributes:
        average: of the generator's weights: what is shown, measured and shipped.
        graphs: what replays the steps' turns, or None where they run as they are.
        networks, optimizers: what a checkpoint keeps, by the names that it has there.
    """

    def __init__(self, config: TrainConfig, device: torch.device, generator: Made, discriminator: Judge):
        self.config, self.device = config, device
        self.generator, self.discriminator = self.place(generator), self.place(discriminator)
        self.average = Average(self.generator, config.ema_images)
        self.graphs = Graphs() if config.cuda_graphs and device.type == "cuda" and distributed.world() == 1 else None
        self.generator_optimizer = self.adam(self.generator, config.generator_lr)
        self.discriminator_optimizer = self.adam(self.discriminator, config.discriminator_lr)
        self.networks: dict[str, nn.Module] = {
            "player": self.generator,
            "discriminator": self.discriminator,
            "average": self.average.module,
        }
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator_adam": self.generator_optimizer,
            "discriminator_adam": self.discriminator_optimizer,
        }

    @abstractmethod
    def step(self, real: Tensor, step: int, rng: torch.Generator) -> dict[str, Tensor]:
        """One step, counted from 0, on this process's share of the photographs, (B, 3, S, S); its losses, detached.

        All randomness comes from `rng` (CPU), which is in the same state in every process. The losses hold "d" and "g".
        """

    @abstractmethod
    def save_samples(self, path: Path) -> None:
        """A picture of what has been learned so far."""

    @abstractmethod
    def shown_model(self) -> tuple[hub.Config, dict[str, Tensor]]:
        """How the model that is shown, measured and shipped is built, and its weights."""

    def place(self, network: Network) -> Network:
        """The network on the device, in the memory layout that was asked for."""
        if self.config.channels_last:
            for parameter in network.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        return network.to(self.device)

    def autocast(self) -> torch.autocast:
        """For forward passes of networks; rendering and gradient penalties stay outside, in float32."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=use_bfloat16(self.config.precision, self.device)
        )

    def adam(self, network: nn.Module, lr: float) -> torch.optim.Adam:
        """A player's optimiser; one that is recorded keeps its counts on the device and is one kernel."""
        recorded = self.graphs is not None
        return torch.optim.Adam(network.parameters(), lr=lr, betas=BETAS, capturable=recorded, fused=recorded or None)

    def play(
        self, step: int, turns: Callable[..., dict[str, Tensor]], *inputs: Input, **options: bool
    ) -> dict[str, Tensor]:
        """`turns(*inputs, **options)`, as a CUDA graph where steps are recorded; then the average of the weights."""
        kind, run = tuple(options.values()), functools.partial(turns, **options)
        stats = self.graphs.run(kind, run, *inputs) if self.graphs else run(*inputs)
        self.average.update(self.generator, self.config.batch, step)
        return stats

    def take_turns(self, judged: Iterable[Terms], made: Iterable[Terms]) -> dict[str, Tensor]:
        """The discriminator learns, then the generator, judged by what has just learned.

        Args:
            judged, made: what each minimises on every part of this process's share. They are asked for one at a time,
                when it is the player's turn: one part's graph is in memory, and `made` sees the new discriminator.

        Returns:
            The means of all terms, detached.
        """
        stats: dict[str, Tensor] = {}
        self._learn(self.discriminator, self.discriminator_optimizer, judged, stats)
        self.discriminator.requires_grad_(False)
        self._learn(self.generator, self.generator_optimizer, made, stats)
        self.discriminator.requires_grad_(True)
        return stats

    def _learn(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, parts: Iterable[Terms], stats: dict[str, Tensor]
    ) -> None:
        """Update a network by the mean over the parts and over all processes; terms go into `stats`."""
        count = self.config.accumulate
        optimizer.zero_grad(set_to_none=True)
        for total, terms in parts:
            (total / count).backward()
            for name, value in terms.items():
                share = value.detach() / count
                stats[name] = stats[name] + share if name in stats else share
        distributed.average_gradients(network.parameters())
        optimizer.step()


def use_bfloat16(precision: NetworkPrecision, device: torch.device) -> bool:
    """Whether the networks run in bfloat16 on this device."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"
