"""The photo renderer and others against real optics: a light field's integrated views, and pairs of focus.

python benchmarks/bokeh_light_field.py light-field FOLDER [--crop 320] [--only argan …] [--json] [--pictures FOLDER]
python benchmarks/bokeh_light_field.py multi-focus FOLDER [--depth sharpness|refined|estimator] [--only …] [--json] …

`light-field`: 9 x 9 views `view_VU.jpg` and the centre one's disparity `disp.npy` (pixels a view, larger is nearer), as
in the HCI benchmark. The mean of the views within a disc, each sheared to the plane in focus, is what a lens of that
size would have seen; renderers get the centre view and its disparity. Judged are all pixels, and those around depth
edges.

`multi-focus`: `NN-aif.jpg`, `NN-near.jpg`, `NN-far.jpg`, the all-in-focus fusion and the photos focused near and far,
as in the Lytro set. Renderers get the fusion and depth, and are compared with the near photo. The blur is not known:
every renderer gets the radius of RADII that serves it best. Depth is which photo of the pair is sharper where
(`refined`: brought to the fusion's edges), or the shipped estimator's.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))
import truth

from argan.guided import guided_upsample
from argan.kernels import render_bokeh

DEPTHS = ("sharpness", "refined", "estimator")
RADII = [0.5 * 2 ** (k / 6) for k in range(31)]  # to 16 pixels, at half the size of the pairs

RENDERERS: dict[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "all in focus": lambda image, disparity, focus, radius: image,
    "light-field gather": lambda *scene: truth.light_field_gather(*scene, samples=200),
    "BokehMe scatter": truth.classical_scatter,
    "Dr.Bokeh layers": truth.two_layers,
    "nearest-fill layers": truth.nearest_fill_layers,
    "argan": lambda image, disparity, focus, radius: render_bokeh(image, disparity, radius, focus),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["light-field", "multi-focus"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crop", type=int, default=320, help="side of the light field's square that is rendered")
    parser.add_argument("--depth", choices=DEPTHS, default="sharpness", help="of the pairs")
    parser.add_argument("--only", nargs="*", default=list(RENDERERS), help="names of renderers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pictures", type=Path, help="write truth | renderings here")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    rows = list(light_field(options) if options.kind == "light-field" else multi_focus(options))
    print(json.dumps(rows, indent=1) if options.json else table(rows))


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
        save(
            options.pictures, f"light-field-{name}.png", [seen[square][judged], *(x[judged] for x in rendered.values())]
        )
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
        inner = (..., slice(8, -8), slice(8, -8))
        pictures = []
        for who in options.only:
            tries = [
                RENDERERS[who](image, disparity, focus, radius)
                for radius in RADII[: 1 if who == "all in focus" else None]
            ]
            best = max(tries, key=lambda picture: truth.psnr(picture[inner][0], near[inner][0]))
            pictures.append(best)
            yield {"focus": path.name[:2], "renderer": who, "whole_db": truth.psnr(best[inner][0], near[inner][0])}
        save(options.pictures, f"pair-{path.name[:2]}.png", [near, image, disparity.expand_as(image), *pictures])


def sharper(near: Tensor, far: Tensor) -> Tensor:
    """1 where the near photo has more fine detail than the far one, 0 where less; soft over some pixels."""

    def detail(x: Tensor) -> Tensor:
        grey = truth.display(x).mean(1, keepdim=True)
        return F.avg_pool2d(
            F.pad(
                (grey - F.avg_pool2d(F.pad(grey, (1,) * 4, mode="replicate"), 3, 1)).abs(), (4,) * 4, mode="replicate"
            ),
            9,
            1,
        )

    a, b = detail(near), detail(far)
    likelier = (a > b).float()
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
        return (
            torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)[None] ** 2.2
        )


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


def save(folder: Path | None, name: str, pictures: list[Tensor]) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        sheet = truth.display(torch.cat(pictures, -1))[0].permute(1, 2, 0)
        Image.fromarray((255 * sheet).round().byte().numpy()).save(folder / name)


if __name__ == "__main__":
    main()
