"""Does depth emerge, and what from? AR-GAN and its ablations on the built-in photographs, judged by true depth.

    python benchmarks/ablations.py                    all variants, each at most 30 minutes on two cores
    python benchmarks/ablations.py --only full:1      one variant and seed

Each variant is trained by `argan train --preset synthetic-cpu`, its estimator by `argan train-depth`; the estimator is
then compared with the true disparity of held-out photographs. A run that is already there goes on or is only measured.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from argan.config import DepthConfig, TrainConfig, resolve_config
from argan.evaluation import depth_against_truth, held_out
from argan.models.hub import Model, load
from argan.training.depth import train_depth
from argan.training.loop import train

VARIANTS = {
    "full": [],
    "no mixture (s = 1)": ["loss.mixture=fixed", "loss.fixed_scale=1.0"],
    "no centre prior": ["loss.prior=0.0"],
    "no rendering (s = 0)": ["loss.mixture=fixed", "loss.fixed_scale=0.0"],
}
RUNS = [("full", 0), ("full", 1), *((name, 0) for name in list(VARIANTS)[1:])]
PHOTOS = 500


def main() -> None:
    arguments = parse_arguments()
    chosen = [run for run in RUNS if arguments.only is None or f"{run[0]}:{run[1]}" == arguments.only]
    for variant, seed in chosen:
        shorter = {"steps": arguments.steps} if arguments.steps else {}
        config = resolve_config("synthetic-cpu", None, VARIANTS[variant], {"seed": seed} | shorter)
        folder = arguments.out / f"{variant.split(' (')[0].replace(' ', '-')}-{seed}"
        result = {"variant": variant, "seed": seed, "steps": config.steps, **measure(config, folder)}
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result), flush=True)
    print(table([json.loads(path.read_text()) for path in sorted(arguments.out.glob("*/result.json"))]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", help="VARIANT:SEED, e.g. full:0")
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


def measure(config: TrainConfig, folder: Path) -> dict[str, float]:
    """Train, learn the estimator, and compare it with the truth."""
    began = time.monotonic()
    train(config, folder)
    minutes = (time.monotonic() - began) / 60
    model = depth_model(folder, config.seed)
    with torch.no_grad():
        rows = depth_against_truth(model.depth, held_out(model.depth.resolution, PHOTOS))
    scores = {
        row.measure: {"value": row.value, "low": row.low, "high": row.high, "prior": row.centre_prior} for row in rows
    }
    return {"minutes": minutes, "scores": scores}


def depth_model(folder: Path, seed: int) -> Model:
    """The run's estimator, learned unless it is there."""
    if not (folder / "model").exists():
        train_depth(load(folder), DepthConfig(steps=800, seed=seed)).save(folder / "model")
    return load(folder / "model")


def table(results: list[dict]) -> str:
    """Markdown: a row a run, the bare centre prior last."""
    lines = ["| variant | seed | Spearman | 95 % | ordinal accuracy | SIDE |", "|---|---|---|---|---|---|"]
    for result in sorted(results, key=lambda result: RUNS.index((result["variant"], result["seed"]))):
        rank, order, side = result["scores"].values()
        interval = f"{rank['low']:.3f} to {rank['high']:.3f}"
        cells = f"{rank['value']:.3f} | {interval} | {order['value']:.3f} | {side['value']:.3f}"
        lines.append(f"| {result['variant']} | {result['seed']} | {cells} |")
    if results:
        rank, order, side = results[0]["scores"].values()
        lines.append(f"| bare centre prior | | {rank['prior']:.3f} | | {order['prior']:.3f} | {side['prior']:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
