"""The photo renderer and others against real optics: a light field's integrated views, and pairs of focus.

python benchmarks/bokeh_light_field.py light-field FOLDER [--crop 320] [--only argan …] [--json] [--pictures FOLDER]
python benchmarks/bokeh_light_field.py multi-focus FOLDER [--depth sharpness|refined|estimator] [--curves 0.5 1 …] …

`light-field`: 9 x 9 views `view_VU.jpg` and the centre one's disparity `disp.npy` (pixels a view, larger is nearer), as
in the HCI benchmark. The mean of the views within a disc, each sheared to the plane in focus, is what a lens of that
size would have seen; renderers get the centre view and its disparity. Judged are all pixels, and those around depth
edges.

`multi-focus`: `NN-aif.jpg`, `NN-near.jpg`, `NN-far.jpg`, the all-in-focus fusion and the photos focused near and far,
as in the Lytro set. Renderers get the fusion and depth, and are compared with the near photo. The blur is not known:
every renderer gets the radius of RADII that serves it best, and of `--curves` the power of |disparity - focus| that
blur grows with: 1 for a thin lens, but an estimator's disparity need not be in proportion to 1 / distance. Depth is
which photo of the pair is sharper where (`refined`: brought to the fusion's edges), or the shipped estimator's. The
table ends with argan's lead on each renderer, its 95 % bootstrap interval over the pairs, and on how many argan is
ahead.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import bokeh_truth
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from real_depth import detail
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))
import truth

from argan.guided import guided_upsample
from argan.metrics import mean_interval

DEPTHS = ("sharpness", "refined", "estimator")
RADII = [0.5 * 2 ** (k / 6) for k in range(31)]  # to 16 pixels, at half the size of the pairs

RENDERERS = bokeh_truth.RENDERERS | {"light-field gather": lambda *scene: truth.light_field_gather(*scene, samples=200)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["light-field", "multi-focus"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crop", type=int, default=320, help="side of the light field's square that is rendered")
    parser.add_argument("--depth", choices=DEPTHS, default="sharpness", help="of the pairs")
    parser.add_argument("--curves", type=float, nargs="+", default=[1.0], help="of the pairs' blur; the best is taken")
    parser.add_argument("--only", nargs="*", default=list(RENDERERS), help="names of renderers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pictures", type=Path, help="write truth | renderings here")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    rows = list(light_field(options) if options.kind == "light-field" else multi_focus(options))
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print(table(rows), *(lead(rows) if options.kind == "multi-focus" else []), sep="\n")


def light_field(options: argparse.Namespace):
    disparity = torch.from_numpy(np.load(options.folder / "disp.npy").astype(np.float32))[None, None]
    views = {(v, u): read(options.folder / f"view_{v}{u}.jpg") for v in range(9) for u in range(9)}
    lens = [(v - 4, u - 4) for v, u in views if math.hypot(v - 4, u - 4) <= 4]
    steps = math.sqrt(2 * sum(v * v + u * u for v, u in lens) / len(lens))  # the disc of the same second moment
    low, span = float(disparity.min()), float(disparity.max() - disparity.min())
    normalised, radius = (disparity - low) / span, steps * span
    margin = math.ceil(radius)
    square = (..., *(slice((n - options.crop) // 2, (n + options.crop) // 2) for n in disparity.shape[-2:]))
    judged = (..., slice(margin, -margin), slice(margin, -margin))
    image, normalised = views[4, 4][square], normalised[square]
    for name, focus in {"near": 0.9, "middle": 0.5, "far": 0.1}.items():
        plane = low + span * focus
        seen = sum(shifted(views[v + 4, u + 4], -plane * v, -plane * u) for v, u in lens) / len(lens)
        band = edge_band(normalised, focus, radius)[judged]
        rendered = {who: RENDERERS[who](image, normalised, focus, radius) for who in options.only}
        if options.pictures:
            sheet = [seen[square], *rendered.values()]
            bokeh_truth.save(options.pictures / f"light-field-{name}.png", [x[judged][0] for x in sheet])
        for who, picture in rendered.items():
            ours, theirs = picture[judged][0], seen[square][judged][0]
            yield {
                "focus": name,
                "renderer": who,
                "edge_db": truth.psnr(ours, theirs, band[0, 0]),
                "whole_db": truth.psnr(ours, theirs),
            }


def multi_focus(options: argparse.Namespace):
    for path in sorted(options.folder.glob("*-aif.jpg")):
        image, near, far = (
            F.avg_pool2d(read(path.with_name(path.name.replace("aif", k))), 2) for k in ("aif", "near", "far")
        )
        disparity = estimated(image) if options.depth == "estimator" else sharper(near, far)
        if options.depth == "refined":
            disparity = guided_upsample(F.avg_pool2d(disparity, 4), truth.display(image)).clamp(0, 1)
        focus = float(disparity.quantile(0.95))
        pictures = []
        for who in options.only:
            best, picture = {"whole_db": -math.inf}, image
            for curve, radius in itertools.product(options.curves, RADII):
                tried = RENDERERS[who](image, curved(disparity - focus, curve), 0.0, radius)
                score = truth.psnr(within(tried), within(near))
                if score > best["whole_db"]:
                    best, picture = {"whole_db": score, "curve": curve, "radius": radius}, tried
            pictures.append(picture)
            yield {"focus": path.name[:2], "renderer": who} | best
        if options.pictures:
            sheet = [near, image, disparity.expand_as(image), *pictures]
            bokeh_truth.save(options.pictures / f"pair-{path.name[:2]}.png", [x[0] for x in sheet])


def curved(away: Tensor, power: float) -> Tensor:
    """|away|^power, with the sign of `away`."""
    return away.sign() * away.abs() ** power


def within(picture: Tensor) -> Tensor:
    """Without the rim, (3,h,w)."""
    return picture[0, :, 8:-8, 8:-8]


def sharper(near: Tensor, far: Tensor) -> Tensor:
    """1 where the near photo has more fine detail than the far one, 0 where less; soft over some pixels."""
    a, b = (detail(truth.display(x)[0]) for x in (near, far))
    likelier = (a > b).float()[None, None]
    for _ in range(2):  # a majority vote, twice
        likelier = (F.avg_pool2d(F.pad(likelier, (5,) * 4, mode="replicate"), 11, 1) > 0.5).float()
    return likelier


def estimated(image: Tensor) -> Tensor:
    import argan

    return argan.estimate_depth(truth.display(image)[0])[None, None]


def edge_band(disparity: Tensor, focus: float, radius: float) -> Tensor:
    """Pixels within the blur of what is nearest to a depth edge, at most 12 pixels."""
    steps = F.max_pool2d(disparity, 3, 1, 1) + F.max_pool2d(-disparity, 3, 1, 1)
    reach = min(12, math.ceil(radius * float((disparity - focus).abs().max())))
    return F.max_pool2d((radius * steps > 1.5).float(), 2 * reach + 1, 1, reach) > 0


def shifted(x: Tensor, dy: float, dx: float) -> Tensor:
    """x(p + (dx, dy)), bicubic, edges extended."""
    height, width = x.shape[-2:]
    y, x_at = torch.meshgrid(torch.arange(height) + dy, torch.arange(width) + dx, indexing="ij")
    grid = torch.stack([2 * x_at / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)[None]
    return F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=True).clamp(min=0)


def read(path: Path) -> Tensor:
    """(1,3,H,W) in linear light."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] ** 2.2


def table(rows: list[dict]) -> str:
    whos, cases = (list(dict.fromkeys(row[key] for row in rows)) for key in ("renderer", "focus"))
    lines = []
    for measure in [key for key in rows[0] if key.endswith("_db")]:
        cell = {(row["renderer"], row["focus"]): row[measure] for row in rows}
        lines.append(f"{measure[:-3]:20}" + "".join(f"{case:>8}" for case in [*cases, "mean"]) + "   (dB)")
        for who in whos:
            values = [cell[who, case] for case in cases]
            lines.append(f"{who:20}" + "".join(f"{value:8.2f}" for value in [*values, sum(values) / len(values)]))
    return "\n".join(lines)


def lead(rows: list[dict]) -> Iterator[str]:
    """By how much argan is ahead of every renderer in the mean of the pairs, and how sure that is."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["renderer"], []).append(row["whole_db"])
    ours = scores.pop("argan", [])
    for who, theirs in scores.items() if ours else ():
        gains = [a - b for a, b in zip(ours, theirs, strict=True)]
        mean, low, high = mean_interval(gains)
        wins = sum(gain > 0 for gain in gains)
        yield f"argan less {who:20} {mean:+.2f} dB, {low:+.2f} to {high:+.2f}; ahead on {wins} of {len(gains)}"


if __name__ == "__main__":
    main()
