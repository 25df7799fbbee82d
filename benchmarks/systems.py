"""The paper's systems on the same photographs and budget, from one command, as the table of docs/results.md.

    python benchmarks/systems.py --data oxford-flowers-102.zip --masks flower-masks/ --truth depth/
    python benchmarks/systems.py --preset synthetic-cpu --steps 300 --num 100       smaller, on the built-in photographs
    python benchmarks/systems.py --preset synthetic-cpu --steps 3000 --time 32      how fast each is

Every system of `argan.config.SYSTEMS` but CycleGAN (`benchmarks/cyclegan_study.py`) is trained with the same seed and
budget, its estimator learned from its samples, and both measured as `argan eval` does. A run that is already there goes
on or is only measured, so that the command can be interrupted and given again, and runs can come from elsewhere.
"""

import argparse
import functools
import json
import statistics
import time
from collections import Counter
from pathlib import Path

import torch

from argan.bench import machine
from argan.config import (
    FROM_SCRATCH,
    PRESETS,
    DepthConfig,
    TrainConfig,
    override,
    parse_settings,
    shows_depth,
    with_system,
)
from argan.devices import resolve_device
from argan.evaluation.depth import Depth, depth_against_truth
from argan.evaluation.run import evaluate_model
from argan.evaluation.truth import held_out, photos_with_depth
from argan.files import atomic_file
from argan.models.hub import Model, is_outdated, load, newest_checkpoint, step_of
from argan.training import pictures
from argan.training.depth import train_depth
from argan.training.loop import train
from argan.training.systems import make_players

TITLES = {"gan": "GAN", "rgbd": "RGBD-GAN", "argan": "AR-GAN", "argan-rgbd": "AR-RGBD-GAN", "modern": "ours (modern)"}
REPORTED = "AR-GAN paper, as an index of results reports it: KID x 1000 of 10.18 on flowers and 13.91 on birds."
MARKS = "<!-- systems: begin -->", "<!-- systems: end -->"


def main() -> None:
    arguments = parse_arguments()
    if arguments.time:
        for system in arguments.systems:
            speed = time_steps(run_config(arguments, system, seed=0), arguments.time, arguments.device)
            print(f"{TITLES[system]}: {speed:.3g} steps per second", flush=True)
        return
    results = []
    for system in arguments.systems:
        for seed in range(arguments.seeds):
            config = run_config(arguments, system, seed)
            folder = arguments.out / f"{config.name}-{seed}"
            if not arguments.measure:
                train(config, folder, device=arguments.device)
            newest = newest_checkpoint(folder)
            if newest is None:
                continue
            scores = measured(config, folder, arguments, flat=not shows_depth(config.model, config.loss.mixture))
            result = {"system": system, "seed": seed, "steps": step_of(newest), **scores}
            (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
            print(json.dumps(result), flush=True)
            results.append(result)
    if not results:
        raise SystemExit(f"no runs of {arguments.preset} in {arguments.out}")
    text = report(results, arguments)
    print(text)
    if arguments.docs:
        write_between_marks(arguments.docs, text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic", help="folder, zip or data set of photographs; or synthetic")
    parser.add_argument("--preset", default="argan-64", help="of AR-GAN; the others are derived from it")
    parser.add_argument("--systems", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="one setting of all runs")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--depth-steps", type=int, default=DepthConfig().steps)
    parser.add_argument(
        "--time", type=int, metavar="N", help="only time N steps of each, on a machine that does nothing else"
    )
    parser.add_argument("--measure", action="store_true", help="train nothing: runs as far as they have come")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--num", type=int, default=5000, help="samples and photographs of every measure")
    parser.add_argument("--features", default="auto", help="as argan eval takes it")
    parser.add_argument("--masks", type=Path, help="figure masks of the photographs")
    parser.add_argument("--truth", type=Path, help="folder of NAME.jpg with NAME.inv.png, 16-bit, 0 where unknown")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/systems"))
    parser.add_argument("--docs", type=Path, help="write the table there, between its marks")
    return parser.parse_args()


def run_config(arguments: argparse.Namespace, system: str, seed: int) -> TrainConfig:
    """The preset turned into the system, with what was asked for on top."""
    steps = {"steps": arguments.steps} if arguments.steps else {}
    preset = override(PRESETS[arguments.preset], {"data": arguments.data, "seed": seed} | steps)
    config = with_system(preset, system, f"{system}-{arguments.preset}")
    return override(config, parse_settings(arguments.settings))


def measured(config: TrainConfig, folder: Path, arguments: argparse.Namespace, flat: bool) -> dict[str, object]:
    """Learn the estimator unless it is there, and measure it and the generator."""
    device = resolve_device(arguments.device)
    model = (load(folder) if flat else depth_model(folder, config, arguments)).to(device)
    samples = evaluate_model(
        model,
        config.data,
        device,
        count=arguments.num,
        features=arguments.features,
        mixture=config.loss.mixture,
        masks=None if flat or config.data == "synthetic" else arguments.masks,
        sheet=folder / "sheet.png",
    )
    rows = {row.measure: row for row in samples.rows}
    if not flat and model.depth is not None:
        with torch.no_grad():
            if config.data != "synthetic":
                synthetic = synthetic_scenes(model.depth.resolution, min(arguments.num, 500))
                known = depth_against_truth(depth_of(model, device), synthetic)
                rows |= {f"synthetic: {row.measure}": row for row in known}
            if arguments.truth:
                real = depth_against_truth(depth_of(model, device), photos_with_depth(arguments.truth))
                rows |= {f"real scenes: {row.measure}": row for row in real}
    save_grid(model, folder / "grid.png")
    return {
        "features": samples.features,
        "steps_per_second": steps_per_second(folder),
        "scores": {
            name: {"value": row.value, "low": row.low, "high": row.high, "prior": row.centre_prior}
            for name, row in rows.items()
        },
    }


@functools.cache
def synthetic_scenes(resolution: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Drawn once for all systems: that takes longer than estimating their depth."""
    return list(held_out(resolution, count))


def time_steps(config: TrainConfig, count: int, device: str) -> float:
    """Steps per second without loading and logging, from the mean of `count` steps after the consistency has set in."""
    where = resolve_device(device)
    players = make_players(config, where)
    real = torch.rand(config.batch, 3, config.model.resolution, config.model.resolution, device=where)
    for _ in range(3 if players.graphs else 1):  # every kind of step is run, recorded, then replayed
        seconds = []
        for number in range(config.loss.consistency_start, config.loss.consistency_start + count):
            began = time.perf_counter()
            float(players.step(real, number, torch.Generator().manual_seed(number))["d"])
            seconds.append(time.perf_counter() - began)
    return 1 / statistics.fmean(seconds)


def depth_of(model: Model, device: torch.device) -> Depth:
    """The estimator, for photographs on the CPU."""
    assert model.depth is not None
    estimate = model.depth
    return lambda image: estimate(image.to(device))


def depth_model(folder: Path, config: TrainConfig, arguments: argparse.Namespace) -> Model:
    """The run's estimator, learned unless it is there, from the samples of the newest checkpoint."""
    if not (folder / "model").exists() or is_outdated(folder, folder / "model"):
        settings = override(DepthConfig(steps=arguments.depth_steps, seed=config.seed), FROM_SCRATCH)
        newest = load(newest_checkpoint(folder))
        train_depth(newest, settings, device=arguments.device).save(folder / "model")
    return load(folder / "model")


def steps_per_second(folder: Path) -> float:
    """The median of what the run logged."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["steps_per_second"] for line in lines)


def save_grid(model: Model, path: Path) -> None:
    """The figure of the paper: five viewpoints from left to right where there are any, depth of field downwards."""
    network = model.config.generator
    assert network is not None
    views = 5 if network.viewpoints else 1
    count = 4 if network.viewpoints else 8
    noise, camera = pictures.in_views(network, count, views, seed=0)
    images, disparity = pictures.generate_apertures(model, noise, [0.0, 0.5, 1.0], camera)
    pictures.save_picture(
        [*images, pictures.depth_picture(disparity)], path, columns=views if network.viewpoints else count
    )


# --- the table --------------------------------------------------------------------------------------------------------


def report(results: list[dict], arguments: argparse.Namespace) -> str:
    """Markdown: a column a system, a row a measure; means over seeds."""
    seeds = Counter(result["system"] for result in results)
    systems = [system for system in TITLES if seeds[system]]
    titles = [TITLES[s] + (f", {seeds[s]} seeds" if seeds[s] > 1 else "") for s in systems]
    measures = list(dict.fromkeys(name for result in results for name in result["scores"]))
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(systems) + 1) + "|"]
    for measure in measures:
        cells = [
            cell([r["scores"][measure] for r in results if r["system"] == s and measure in r["scores"]])
            for s in systems
        ]
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    steps = [statistics.fmean(r["steps"] for r in results if r["system"] == s) for s in systems]
    lines.append("| steps | " + " | ".join(f"{count:,.0f}" for count in steps) + " |")
    speeds = [statistics.fmean(r["steps_per_second"] for r in results if r["system"] == s) for s in systems]
    lines.append("| steps per second | " + " | ".join(f"{speed:.3g}" for speed in speeds) + " |")
    features = next((result["features"] for result in results if result["features"]), None)
    return "\n".join(
        [
            f"Data: {Path(arguments.data).name}; preset {arguments.preset}; {arguments.num} samples; "
            f"KID, FID, precision and recall on {features or 'no'} features. Measured on: {where(arguments)}.",
            "In brackets: from the least to the greatest of several seeds, whose mean stands before; of one, the 95 % "
            "bootstrap interval over photographs or samples. Prior: the bare centre prior's score.",
            "",
            *lines,
            "",
            REPORTED,
        ]
    )


def where(arguments: argparse.Namespace) -> str:
    """The machine, in words."""
    facts = machine(resolve_device(arguments.device))
    return f"{facts['device']}, {facts['cores']} cores, {facts['threads']} threads, torch {facts['torch']}"


def cell(scores: list[dict]) -> str:
    """The value and its interval; of several seeds the mean, from the least to the greatest; the bare prior."""
    if not scores:
        return "-"
    first, values = scores[0], [score["value"] for score in scores]
    text = f"{statistics.fmean(values):.3g}"
    if len(values) > 1:
        text += f" ({min(values):.3g} to {max(values):.3g})"
    elif first["low"] is not None:
        text += f" ({first['low']:.3g} to {first['high']:.3g})"
    return text if first["prior"] is None else f"{text}; prior {first['prior']:.3g}"


def write_between_marks(path: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Replace what stands between the marks of a document, or begin the document."""
    begin, end = marks
    document = path.read_text() if path.exists() else f"# Results\n\n{begin}\n{end}\n"
    before, rest = document.split(begin, 1)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")


if __name__ == "__main__":
    main()
