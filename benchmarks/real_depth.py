"""Estimated depth on real photographs, by three kinds of truth that no model has seen, beside the bare centre prior.

    python benchmarks/real_depth.py DATA [--model MODEL …]

DATA holds `oxford-flowers-102-256.zip` with `flower-masks/` (is the figure nearer than the ground: AUC; is its contour
nearer than its inside: rim; how far does depth run over its outline: spill), `depth/` (photographs with true inverse
depth, 0 where unknown: Spearman correlation, also less the prior's, photograph by photograph), and `multifocus/` (pairs
of one scene focused near and far, and their fusion: is what is sharp in the near photo nearer: AUC over the pixels that
one of the two shows clearly sharper; the order of a pair is right where it is above 1/2). A bare ramp, the lower the
nearer, is what knowing nothing but the ground comes to.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from argan.evaluation.depth import Depth
from argan.evaluation.truth import masked_photos, photos_with_depth
from argan.metrics import area_under_roc, centre_prior, mean_interval, rim, spearman, spill
from argan.models.hub import load

SIDE = 256  # px of the short side at which pairs are compared
SHARPER = 1.5  # times as much detail as the other photo of a pair shows: clearly sharper

PRIOR = "bare centre prior"
Measure = Callable[[Tensor, Tensor], float]  # disparity (H,W), truth (H,W)
Judged = Iterator[tuple[str, Tensor, Tensor]]  # name, photograph (3,H,W) in [0, 1], truth (H,W), NaN where unknown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", nargs="*", default=["flowers"], help="names or folders")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    estimators = {PRIOR: centre_prior, "bare ramp": ramp} | {name: load(name).depth for name in arguments.model}
    report = {name: judge(depth, arguments.data) for name, depth in estimators.items()}
    print(json.dumps(report, indent=1) if arguments.json else table(report))


@torch.no_grad()
def judge(
    depth: Depth, data: Path, kinds: Iterable[str] = ("masks", "rims", "spills", "scenes", "pairs")
) -> dict[str, dict[str, float]]:
    """By kind of truth, the score of every photograph."""
    report: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    for photos in dict.fromkeys(KINDS[kind][0] for kind in report):
        measures = {kind: KINDS[kind][1] for kind in report if KINDS[kind][0] is photos}
        for name, photo, truth in photos(data):
            disparity = depth(photo[None])[0, 0]
            for kind, measure in measures.items():
                report[kind][name] = measure(disparity, truth)
    return report


def ramp(image: Tensor) -> Tensor:
    """The lower, the nearer."""
    return torch.linspace(0, 1, image.shape[2]).view(1, 1, -1, 1).expand(1, 1, *image.shape[2:])


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


def where_known(measure: Measure) -> Measure:
    """A measure of pixels in any order, on those whose truth is known."""

    def measure_known(depth: Tensor, truth: Tensor) -> float:
        known = ~truth.isnan()
        return measure(depth[known], truth[known])

    return measure_known


KINDS: dict[str, tuple[Callable[[Path], Judged], Measure]] = {
    "masks": (masks, where_known(area_under_roc)),
    "rims": (masks, rim),
    "spills": (masks, spill),
    "scenes": (scenes, where_known(spearman)),
    "pairs": (pairs, where_known(area_under_roc)),
}


def table(report: dict) -> str:
    """Markdown: a row an estimator."""
    columns = [
        "figure nearer, AUC",
        "rim",
        "spill",
        "true depth, Spearman",
        "less the prior's",
        "pairs right",
        "pairs, AUC",
    ]
    lines = [f"| depth | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, scores in report.items():
        figure, contour, over, scene, pair = (list(scores[kind].values()) for kind in KINDS)
        gain = [score - prior for score, prior in zip(scene, report[PRIOR]["scenes"].values(), strict=True)]
        cells = [with_interval(figure), f"{nanmean(contour):+.3f}", f"{nanmean(over):.3f}", with_interval(scene)]
        cells += ["" if name == PRIOR else with_interval(gain)]
        cells += [f"{sum(score > 0.5 for score in pair)} of {len(pair)}", f"{fmean(pair):.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def nanmean(values: list[float]) -> float:
    return fmean(value for value in values if not math.isnan(value))


def with_interval(values: Sequence[float] | Tensor) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
