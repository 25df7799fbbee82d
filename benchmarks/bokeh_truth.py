"""The photo renderer and others against what a thin lens would have seen: PSNR in dB around depth edges and over all.

python benchmarks/bokeh_truth.py [--samples 2000] [--supersample 1] [--json] [--pictures FOLDER]
python benchmarks/bokeh_truth.py --twice [--photos PHOTO_OR_FOLDER...]    how well argan's of twice the size agree
python benchmarks/bokeh_truth.py --radii 15 30 60 120    a disc before a plane, blurred so much
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))
import truth

import argan
from argan.cli._batch import find_photos
from argan.images import read_photo, to_pil
from argan.kernels import render_bokeh
from argan.kernels.bokeh.areas import halved
from argan.light import to_linear

RENDERERS: dict[str, Callable[..., Tensor]] = {  # of image, disparity, focus and radius
    "all in focus": lambda image, *_: image,
    "light-field gather": truth.light_field_gather,
    "BokehMe scatter": truth.classical_scatter,
    "Dr.Bokeh layers": truth.two_layers,
    "nearest-fill layers": truth.nearest_fill_layers,
    "argan": lambda image, disparity, focus, radius=truth.RADIUS: render_bokeh(image, disparity, radius, focus),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="rays a pixel of the true picture")
    parser.add_argument("--supersample", type=int, default=1, help="draw with so many times the pixels, for a sensor")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    parser.add_argument("--pictures", type=Path, help="write truth | renderings of every scene here")
    parser.add_argument("--only", nargs="*", help="names of renderers")
    parser.add_argument(
        "--twice", action="store_true", help="compare with renderings of twice the size, not with a lens"
    )
    parser.add_argument("--photos", type=Path, nargs="+", help="compare these of twice the size, not the scenes")
    parser.add_argument("--radii", type=float, nargs="+", help="two planes instead of the scenes; blur radii in pixels")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    if options.twice:
        print(photos_twice(options.photos) if options.photos else twice())
        return
    if options.radii:
        rows = [row for radius in options.radii for row in judge_two_planes(radius, options)]
    else:
        with truth.enlarged(options.supersample):
            scenes = truth.scenes()
        rows = [row for scene in scenes for row in judge(scene, options)]
    print(json.dumps(rows, indent=1) if options.json else table(rows))


def judge(scene: truth.Scene, options: argparse.Namespace) -> list[dict]:
    image, disparity = scene.all_in_focus()
    rows = []
    for name, focus in scene.focus.items():
        seen, band = truth.photograph(scene, focus, options.samples), scene.edge_band(focus)
        renderings = {who: truth.crop(render(image, disparity, focus))[0] for who, render in chosen(options)}
        rows += compare(scene.name, name, renderings, seen, band, options.pictures)
    return rows


def judge_two_planes(radius: float, options: argparse.Namespace) -> list[dict]:
    rows = []
    for name, focus in {"near": 1.0, "far": 0.0, "between": 0.5}.items():
        image, disparity, seen, band = truth.two_planes(radius, focus)
        renderings = {who: render(image, disparity, focus, radius)[0] for who, render in chosen(options)}
        rows += compare(f"{radius:g}", name, renderings, seen, band, options.pictures)
    return rows


def chosen(options: argparse.Namespace) -> list[tuple[str, Callable[..., Tensor]]]:
    return [(who, render) for who, render in RENDERERS.items() if not options.only or who in options.only]


def compare(scene: str, focus: str, renderings: dict, seen: Tensor, band: Tensor, pictures: Path | None) -> list[dict]:
    """Of every renderer, PSNR around depth edges (`band`) and over all; `seen` is the truth, (3,h,w) linear light."""
    if pictures:
        save(pictures / f"{scene}-{focus}.png", [seen, *renderings.values()])
    return [
        {
            "scene": scene,
            "focus": focus,
            "renderer": who,
            "edge_db": truth.psnr(rendering, seen, band),
            "whole_db": truth.psnr(rendering, seen),
        }
        for who, rendering in renderings.items()
    ]


def twice() -> str:
    """PSNR between pictures blurred at twice the size and brought back, and those blurred as they are, by focus.

    Twice as large are the scenes drawn anew, as by a sensor of four times as many pixels, of which the smaller
    picture's are the means; and, behind the stroke, the scenes with every pixel made four.
    """
    drawn, repeated = [], []
    with truth.enlarged(2):
        larger = [(scene, *scene.all_in_focus()) for scene in truth.scenes()]
    lines = []
    for scene, image, disparity in larger:
        _, nearest = scene.all_in_focus()
        image = image.clamp(max=1)
        drawn.append(agreement(scene.focus.values(), truth.crop, halved(image, 1), nearest, image, disparity))
    for scene in truth.scenes():
        image, disparity = (x.clamp(max=1) for x in scene.all_in_focus())
        repeated.append(
            agreement(scene.focus.values(), truth.crop, image, disparity, four_times(image), four_times(disparity))
        )
    for (scene, *_), *both in zip(larger, drawn, repeated, strict=True):
        cells = [f"{focus} {a:.1f} / {b:.1f}" for focus, a, b in zip(scene.focus, *both, strict=True)]
        lines.append("  ".join([f"{scene.name:8}", *cells]))
    return "\n".join([*lines, *(summary(kind) for kind in (drawn, repeated))])


def photos_twice(photos: list[Path]) -> str:
    """The same for photographs of 960 pixels and their halves, with the depth that the shipped estimator sees in them.

    Focused where a tenth, half and nine tenths of each are farther.
    """
    model, lines, all_cases = argan.load(), [], []
    for path in find_photos(photos):
        picture = to_pil(read_photo(path)).convert("RGB")
        size = [2 * round(480 * length / max(picture.size)) for length in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        image = to_linear(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255)
        disparity = torch.from_numpy(argan.estimate_depth(picture, model=model))[None, None]
        focuses = [float(disparity.quantile(share)) for share in (0.1, 0.5, 0.9)]
        cases = agreement(focuses, lambda whole: whole, halved(image, 1), halved(disparity, 1), image, disparity)
        lines.append("  ".join([f"{path.stem[:20]:20}", *(f"{case:.1f}" for case in cases)]))
        all_cases.append(cases)
    return "\n".join([*lines, summary(all_cases)])


def summary(pictures: list[list[float]]) -> str:
    cases = [case for picture in pictures for case in picture]
    enough = sum(case >= 40 for case in cases)
    return f"mean {fmean(cases):.1f} dB, least {min(cases):.1f}, {enough} of {len(cases)} at 40 dB or more"


def agreement(
    focuses: Iterable[float], crop: Callable[[Tensor], Tensor], image: Tensor, disparity: Tensor, *larger: Tensor
) -> list[float]:
    """PSNR in dB for each focus between a picture blurred, and the `larger` one blurred and halved, of their `crop`."""
    cases = []
    for focus in focuses:
        rendered = render_bokeh(image, disparity, truth.RADIUS, focus)
        reduced = halved(render_bokeh(*larger, 2 * truth.RADIUS, focus), 1)
        cases.append(truth.psnr(crop(rendered)[0], crop(reduced)[0]))
    return cases


def four_times(x: Tensor) -> Tensor:
    """Every pixel made four."""
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def table(rows: list[dict]) -> str:
    lines = [f"{'scene':8} {'focus':8} {'renderer':20} {'edges':>6} {'whole':>6}   (dB)"]
    lines += [
        f"{r['scene']:8} {r['focus']:8} {r['renderer']:20} {r['edge_db']:6.2f} {r['whole_db']:6.2f}" for r in rows
    ]
    means = defaultdict(list)
    for r in rows:
        means[r["focus"], r["renderer"]].append(r)
    for (focus, who), group in means.items():
        edge, whole = (sum(r[key] for r in group) / len(group) for key in ("edge_db", "whole_db"))
        lines.append(f"{'mean':8} {focus:8} {who:20} {edge:6.2f} {whole:6.2f}")
    return "\n".join(lines)


def save(path: Path, pictures: list[Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = truth.display(torch.cat(pictures, -1)).permute(1, 2, 0)
    Image.fromarray((255 * sheet).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
