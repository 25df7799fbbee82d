"""Where a training step's time goes: loading, rendering and logging beside the whole step.

    python benchmarks/step.py --preset argan-64 --device cuda
    python benchmarks/step.py --preset argan-64 --device cuda --set channels_last=true --set precision=float32

Each part is run by itself, least of several repeats, rendering recorded as a CUDA graph where steps are. Loading is
counted although a thread does it while the step before runs. Before anything is timed, a step must have finite losses
and must change both networks.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from argan.bench import machine
from argan.config import resolve_config
from argan.devices import resolve_device
from argan.training.gan import AperturePlayers
from argan.training.logs import Log
from argan.training.loop import batches, open_photos
from argan.training.systems import make_players


def main() -> None:
    arguments = parse_arguments()
    config = resolve_config(arguments.preset, None, ["synthetic_photos=256", *arguments.settings], {})
    device = resolve_device(arguments.device)
    players, photos = make_players(config, device), open_photos(config)
    if not isinstance(players, AperturePlayers):
        raise SystemExit(f"{config.name} renders nothing")
    coming = batches(photos, config, 0, device)
    real, rng = next(coming)
    coming.close()
    check(players, real)

    draws = players.parts(rng)[0]
    with torch.no_grad():
        scene = players.make(draws)
    indices, flips = torch.arange(config.batch) % len(photos), torch.zeros(config.batch, dtype=torch.bool)
    stats = {name: torch.zeros((), device=device) for name in ("d", "g", "prior", "expansion", "smoothness")}

    def rendered(deep: torch.Tensor, disparity: torch.Tensor) -> dict[str, torch.Tensor]:
        players.generator.zero_grad()
        shown, expansion = players.render(deep.detach().requires_grad_(), disparity.detach().requires_grad_(), draws)
        (shown.sum() + expansion).backward()
        return {"expansion": expansion.detach()}

    def render() -> None:
        inputs = scene.deep, scene.disparity
        players.graphs.run("render", rendered, *inputs) if players.graphs else rendered(*inputs)

    def every_step(number: int) -> None:
        players.step(real, number, torch.Generator().manual_seed(number))

    with tempfile.TemporaryDirectory() as folder, Log(Path(folder), 0) as log:

        def note() -> None:
            for _ in range(config.log_every):
                log.add(stats, config.batch)
            log.write(1)

        penalised = seconds(lambda: every_step(0), arguments.repeats, device)
        plain = seconds(lambda: every_step(1), arguments.repeats, device)
        interval = config.loss.r1_interval
        step = (penalised + (interval - 1) * plain) / interval
        parts = {
            "load": seconds(lambda: photos.batch(indices, flips, device), arguments.repeats, device),
            "render, forward and backward": seconds(render, arguments.repeats, device),
            "gradient penalty": (penalised - plain) / interval,
            "log": seconds(note, arguments.repeats, device) / config.log_every,
        }
    result = {
        "machine": machine(device),
        "preset": config.name,
        "settings": arguments.settings,
        "step_ms": 1000 * step,
        "images_per_second": config.batch / step,
        "ms": {name: 1000 * value for name, value in parts.items()},
        "share": {name: value / step for name, value in parts.items()},
    }
    print(json.dumps(result, indent=2))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="argan-64")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=20)
    return parser.parse_args()


def check(players: AperturePlayers, real: torch.Tensor) -> None:
    """A step that is worth timing."""
    before = [next(network.parameters()).clone() for network in (players.generator, players.discriminator)]
    stats = players.step(real, 0, torch.Generator().manual_seed(0))
    after = [next(network.parameters()) for network in (players.generator, players.discriminator)]
    if not all(torch.isfinite(value) for value in stats.values()):
        raise SystemExit(f"not finite: {stats}")
    if any(torch.equal(old, new) for old, new in zip(before, after, strict=True)):
        raise SystemExit("a network did not change")


def seconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Least of the repeats, after one that is not counted."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    times = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
