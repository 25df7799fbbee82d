"""Estimated depth on real photographs that no model learned from, three ways, beside the bare centre prior.

    python benchmarks/real_depth.py DATA [--model MODEL …]

DATA holds `oxford-flowers-102-256.zip` with `flower-masks/` (is the figure nearer than the ground: AUC), `depth/`
(photographs with true inverse depth, 0 where unknown: Spearman correlation), and `multifocus/` (pairs of one scene
focused near and far, and their fusion: is what is sharp in the near photo nearer: AUC over the pixels that one of the
two shows clearly sharper; the order of a pair is right where it is above 1/2).
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from argan.evaluation import Depth, centre_prior, masked_photos, photos_with_depth
from argan.metrics import area_under_roc, mean_interval, spearman
from argan.models.hub import load

SIDE = 256  # px of the short side at which pairs are compared
SHARPER = 1.5  # times as much detail as the other photo of a pair shows: clearly sharper

Judged = Iterator[tuple[str, Tensor, Tensor]]  # name, photograph (3,H,W) in [0, 1], truth (H,W), NaN where unknown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", nargs="*", default=["flowers"], help="names or folders")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    estimators = {"bare centre prior": centre_prior} | {name: load(name).depth for name in arguments.model}
    report = {name: judge(depth, arguments.data) for name, depth in estimators.items()}
    print(json.dumps(report, indent=1) if arguments.json else table(report))


@torch.no_grad()
def judge(depth: Depth, data: Path, kinds: Iterable[str] = ("masks", "scenes", "pairs")) -> dict[str, dict[str, float]]:
    """By kind of truth, the score of every photograph."""
    report: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    for kind, scores in report.items():
        photos, measure = KINDS[kind]
        for name, photo, truth in photos(data):
            known = ~truth.isnan()
            scores[name] = measure(depth(photo[None])[0, 0][known], truth[known])
    return report


def masks(data: Path) -> Judged:
    pairs = masked_photos(data / "oxford-flowers-102-256.zip", data / "flower-masks")
    return ((str(index), photo, mask.float()) for index, (photo, mask) in enumerate(pairs))


def scenes(data: Path) -> Judged:
    return ((str(index), photo, truth[0]) for index, (photo, truth) in enumerate(photos_with_depth(data / "depth")))


def pairs(data: Path) -> Judged:
    """1 where the near photo of a pair is clearly sharper, 0 where the far one is, NaN elsewhere."""
    for path in sorted((data / "multifocus").glob("*-aif.jpg")):
        near, far = (detail(read(path.with_name(path.name.replace("aif", which)))) for which in ("near", "far"))
        truth = torch.full_like(near, torch.nan)
        truth[near > SHARPER * far] = 1
        truth[far > SHARPER * near] = 0
        yield path.name[:2], read(path), truth


def detail(photo: Tensor) -> Tensor:
    """Fine detail around each pixel: the mean over 9 x 9 px of how far pixels differ from their surroundings, (H,W)."""
    grey = photo.mean(0, keepdim=True)[None]
    fine = (grey - F.avg_pool2d(F.pad(grey, (1,) * 4, mode="replicate"), 3, 1)).abs()
    return F.avg_pool2d(F.pad(fine, (4,) * 4, mode="replicate"), 9, 1)[0, 0]


def read(path: Path) -> Tensor:
    """(3,H,W) in [0, 1], the short side SIDE px."""
    with Image.open(path) as picture:
        scale = SIDE / min(picture.size)
        small = picture.convert("RGB").resize([round(scale * n) for n in picture.size], Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1)


KINDS: dict[str, tuple[Callable[[Path], Judged], Callable[[Tensor, Tensor], float]]] = {
    "masks": (masks, area_under_roc),
    "scenes": (scenes, spearman),
    "pairs": (pairs, area_under_roc),
}


def table(report: dict) -> str:
    """Markdown: a row an estimator."""
    lines = ["| depth | figure nearer, AUC | true depth, Spearman | pairs right | pairs, AUC |"]
    lines.append("|---|---|---|---|---|")
    for name, scores in report.items():
        figure, scene, pair = (list(scores[kind].values()) for kind in KINDS)
        right = f"{sum(score > 0.5 for score in pair)} of {len(pair)}"
        cells = f"{with_interval(figure)} | {with_interval(scene)} | {right} | {fmean(pair):.3f}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def with_interval(values: list[float]) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
