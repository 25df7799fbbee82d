"""Does depth emerge, and what from? AR-GAN and its ablations on the built-in photographs, judged by true depth.

    python benchmarks/ablations.py                    all variants, each at most 30 minutes on two cores
    python benchmarks/ablations.py --only full:1      one variant and seed

Each variant is trained by `argan train --preset synthetic-cpu`, its estimator by `argan train-depth`; the estimator is
then compared with the true disparity of held-out photographs, the same for all: what a part is worth is the mean over
photographs of the full method's score (averaged over its seeds) less the variant's. Deep images are compared with
photographs through a pinhole, by their sharpness. A run that is already there goes on or is only measured.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from argan.config import PRESETS, DepthConfig, TrainConfig, resolve_config
from argan.data.synthetic import draw_scene, photograph
from argan.evaluation import Depth, centre_prior, held_out, scores_against_truth
from argan.metrics import gradient_energy, mean_interval
from argan.models.hub import Model, load
from argan.training.depth import train_depth
from argan.training.loop import train

VARIANTS = {
    "full": [],
    "no mixture (s = 1)": ["loss.mixture=fixed", "loss.fixed_scale=1.0"],
    "no centre prior": ["loss.prior=0.0"],
    "no rendering (s = 0)": ["loss.mixture=fixed", "loss.fixed_scale=0.0"],
}
RUNS = [(name, seed) for name in VARIANTS for seed in ((0, 1) if name in ("full", "no mixture (s = 1)") else (0,))]
PHOTOS = 500
SHARPNESS_OF = 300
MEASURES = ("Spearman", "ordinal accuracy", "SIDE")

Scores = dict[str, list[float]]  # by measure, one for each photograph


def main() -> None:
    arguments = parse_arguments()
    chosen = [run for run in RUNS if arguments.only is None or f"{run[0]}:{run[1]}" == arguments.only]
    for variant, seed in chosen:
        shorter = {"steps": arguments.steps} if arguments.steps else {}
        config = resolve_config("synthetic-cpu", None, VARIANTS[variant], {"seed": seed} | shorter)
        folder = arguments.out / f"{variant.split(' (')[0].replace(' ', '-')}-{seed}"
        result = {"variant": variant, "seed": seed, "steps": config.steps, **measure(config, folder)}
        (folder / "result.json").write_text(json.dumps(result) + "\n")
        print(f"{variant}, seed {seed}: Spearman {with_interval(result['scores']['Spearman'])}", flush=True)
    print(table([json.loads(path.read_text()) for path in sorted(arguments.out.glob("*/result.json"))]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", help="VARIANT:SEED, e.g. full:0")
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


def measure(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train, learn the estimator, and compare it with the truth: scores by measure, one for each photograph."""
    began = time.monotonic()
    train(config, folder)
    minutes = (time.monotonic() - began) / 60
    model = depth_model(folder, config.seed)
    return {
        "minutes": minutes,
        "scores": scores_of(model.depth, model.depth.resolution),
        "deep": sharpness_of_deep_images(model) / sharpness_of_pinhole_photos(model.depth.resolution),
    }


def scores_of(depth: Depth, resolution: int) -> Scores:
    with torch.no_grad():
        (scores,) = scores_against_truth(held_out(resolution, PHOTOS), depth)
    return dict(zip(MEASURES, scores.values(), strict=True))


@torch.no_grad()
def sharpness_of_deep_images(model: Model) -> float:
    """Mean squared gradient of SHARPNESS_OF deep samples."""
    noise = torch.randn(SHARPNESS_OF, model.generator.z_dim, generator=torch.Generator().manual_seed(0))
    return fmean(float(gradient_energy(image).mean()) for image in model.generator(noise)[0])


def sharpness_of_pinhole_photos(resolution: int) -> float:
    """The same of as many scenes, all photographed with a pinhole: what deep images are to look like."""
    generators = [np.random.default_rng([0, index]) for index in range(SHARPNESS_OF)]
    photos = [photograph(draw_scene(rng), resolution, aperture=0.0, rng=rng) for rng in generators]
    return fmean(float(gradient_energy(torch.from_numpy(photo)).mean()) for photo in photos)


def depth_model(folder: Path, seed: int) -> Model:
    """The run's estimator, learned unless it is there."""
    if not (folder / "model").exists():
        train_depth(load(folder), DepthConfig(steps=800, seed=seed)).save(folder / "model")
    return load(folder / "model")


def table(results: list[dict]) -> str:
    """Markdown: a row a run, the bare centre prior last."""
    rows = [(r["variant"], str(r["seed"]), r["scores"], f"{r['deep']:.2f}") for r in results]
    rows.sort(key=lambda row: RUNS.index((row[0], int(row[1]))))
    rows.append(("bare centre prior", "", scores_of(centre_prior, PRESETS["synthetic-cpu"].model.resolution), ""))
    full = [scores["Spearman"] for variant, _, scores, _ in rows if variant == "full"]
    lines = [
        "| variant | seed | Spearman | full less this | ordinal accuracy | SIDE | deep / pinhole |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, seed, scores, deep in rows:
        less = torch.tensor(full).mean(0) - torch.tensor(scores["Spearman"]) if full else torch.zeros(0)
        gain = "" if variant == "full" or not full else with_interval(less)
        rank, order, side = (scores[name] for name in MEASURES)
        cells = f"{with_interval(rank)} | {gain} | {fmean(order):.3f} | {fmean(side):.3f} | {deep}"
        lines.append(f"| {variant} | {seed} | {cells} |")
    return "\n".join(lines)


def with_interval(values: list[float] | Tensor) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
