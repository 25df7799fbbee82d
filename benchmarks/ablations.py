"""Does depth emerge, and what from? AR-GAN and its ablations on the built-in photographs, judged by true depth.

    python benchmarks/ablations.py                    all variants, each at most 30 minutes on two cores
    python benchmarks/ablations.py --only full:1      one variant and seed

Each variant is trained by `argan train --preset synthetic-cpu`. From its samples `argan train-depth` learns two
estimators: one from deep images, as AR-GAN-DR does, and one from deep and shallow images, as is better for real photos.
They are then compared with the true disparity of held-out photographs, the same for all: what a part is worth is the
mean over photographs of the full method's score (averaged over its seeds) less the variant's. Deep images are compared
with photographs through a pinhole, by their sharpness. A run that is already there goes on or is only measured.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from real_depth import with_interval

from argan.config import FROM_SCRATCH, PRESETS, DepthConfig, TrainConfig, override, resolve_config
from argan.data.synthetic import draw_scene, photograph
from argan.evaluation.depth import Depth, scores_against_truth
from argan.evaluation.truth import held_out
from argan.metrics import centre_prior, gradient_energy
from argan.models.hub import Model, is_outdated, load, newest_checkpoint
from argan.training.depth import train_depth
from argan.training.loop import train

VARIANTS = {
    "full": [],
    "no mixture (s = 1)": ["loss.mixture=shallow"],
    "no centre prior": ["loss.prior=0.0"],
    "no rendering (s = 0)": ["loss.mixture=deep"],
    "uniform mixture": ["loss.mixture=uniform"],
    "no expansion T": ["model.expansion=false"],
}
RUNS = [(name, seed) for name in VARIANTS for seed in ((0, 1) if name in ("full", "no mixture (s = 1)") else (0,))]
PHOTOS = 500
SHARPNESS_OF = 300
MEASURES = ("Spearman", "ordinal accuracy", "SIDE")
LEARNED_FROM = {"deep": "deep images", "both": "deep and shallow images"}  # DepthConfig.images
ESTIMATOR_STEPS = 800

Scores = dict[str, list[float]]  # by measure, one for each photograph


def main() -> None:
    arguments = parse_arguments()
    chosen = [run for run in RUNS if arguments.only is None or f"{run[0]}:{run[1]}" == arguments.only]
    if not chosen:
        raise SystemExit(f"--only is one of {', '.join(f'{name}:{seed}' for name, seed in RUNS)}")
    for variant, seed in chosen:
        shorter = {"steps": arguments.steps} if arguments.steps else {}
        config = resolve_config("synthetic-cpu", None, VARIANTS[variant], {"seed": seed} | shorter)
        folder = arguments.out / f"{variant.split(' (')[0].replace(' ', '-')}-{seed}"
        result = {"variant": variant, "seed": seed, "steps": config.steps, **measure(config, folder)}
        (folder / "result.json").write_text(json.dumps(result) + "\n")
        ranks = (f"{with_interval(result[images]['Spearman'])} from {name}" for images, name in LEARNED_FROM.items())
        print(f"{variant}, seed {seed}: Spearman {', '.join(ranks)}", flush=True)
    print(table([json.loads(path.read_text()) for path in sorted(arguments.out.glob("*/result.json"))]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", help="VARIANT:SEED, e.g. full:0")
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


def measure(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train, learn the estimators, and compare them with the truth: scores by measure, one for each photograph."""
    began = time.monotonic()
    train(config, folder)
    minutes = (time.monotonic() - began) / 60
    model = load(folder)
    resolution = config.model.resolution
    return {
        "minutes": minutes,
        "sharpness": sharpness_of_deep_images(model) / sharpness_of_pinhole_photos(resolution),
        **{images: scores_of(depth_model(folder, images, config.seed).depth, resolution) for images in LEARNED_FROM},
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


def depth_model(folder: Path, images: str, seed: int) -> Model:
    """The run's estimator from these images, learned unless it is there, from the newest checkpoint's samples."""
    kept = folder / f"from-{images}"
    if not kept.exists() or is_outdated(folder, kept):
        plain = DepthConfig(steps=ESTIMATOR_STEPS, seed=seed, collage=0, stage=0, light=0, negatives=0)
        config = override(plain, FROM_SCRATCH | {"images": images})
        train_depth(load(newest_checkpoint(folder)), config).save(kept)
    return load(kept)


def table(results: list[dict]) -> str:
    """Markdown: a row a run, the bare centre prior last."""
    results = sorted(results, key=lambda result: RUNS.index((result["variant"], result["seed"])))
    prior = scores_of(centre_prior, PRESETS["synthetic-cpu"].model.resolution)
    columns = [f"Spearman, from {name} | full less this" for name in LEARNED_FROM.values()]
    lines = [f"| variant | seed | {' | '.join(columns)} | deep / pinhole |", "|---|---|---|---|---|---|---|"]
    for result in [*results, {"variant": "bare centre prior", "seed": "", **dict.fromkeys(LEARNED_FROM, prior)}]:
        cells = [result["variant"], str(result["seed"])]
        for images in LEARNED_FROM:
            ranks = result[images]["Spearman"]
            full = [other[images]["Spearman"] for other in results if other["variant"] == "full"]
            less = with_interval(torch.tensor(full).mean(0) - torch.tensor(ranks)) if full else ""
            cells += [with_interval(ranks), "" if result["variant"] == "full" else less]
        cells.append(f"{result['sharpness']:.2f}" if "sharpness" in result else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
