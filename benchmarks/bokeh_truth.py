"""The photo renderer and others against what a thin lens would have seen: PSNR in dB around depth edges and over all.

python benchmarks/bokeh_truth.py [--samples 2000] [--json] [--pictures FOLDER]
python benchmarks/bokeh_truth.py --twice    how far argan's pictures of twice the size differ
python benchmarks/bokeh_truth.py --radii 15 30 60 120    a disc before a plane, blurred so much
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))
import truth

from argan.kernels import render_bokeh


def argan(image: torch.Tensor, disparity: torch.Tensor, focus: float, radius: float = truth.RADIUS) -> torch.Tensor:
    return render_bokeh(image, disparity, radius, focus)


RENDERERS = {
    "all in focus": lambda image, *_: image,
    "light-field gather": truth.light_field_gather,
    "BokehMe scatter": truth.classical_scatter,
    "Dr.Bokeh layers": truth.two_layers,
    "nearest-fill layers": truth.nearest_fill_layers,
    "argan": argan,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="rays a pixel of the true picture")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    parser.add_argument("--pictures", type=Path, help="write truth | renderings of every scene here")
    parser.add_argument("--only", nargs="*", help="names of renderers")
    parser.add_argument(
        "--twice", action="store_true", help="compare with renderings of twice the size, not with a lens"
    )
    parser.add_argument("--radii", type=float, nargs="+", help="two planes instead of the scenes; blur radii in pixels")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    if options.twice:
        print("\n".join(twice(scene) for scene in truth.scenes()))
        return
    if options.radii:
        rows = [row for radius in options.radii for row in judge_two_planes(radius, options)]
    else:
        rows = [row for scene in truth.scenes() for row in judge(scene, options)]
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


def chosen(options: argparse.Namespace) -> list[tuple[str, Callable[..., torch.Tensor]]]:
    return [(who, render) for who, render in RENDERERS.items() if not options.only or who in options.only]


def compare(
    scene: str, focus: str, renderings: dict, seen: torch.Tensor, band: torch.Tensor, pictures: Path | None
) -> list[dict]:
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


def twice(scene: truth.Scene) -> str:
    """PSNR between the rendering and that of the picture with every pixel made four, by focus."""
    image, disparity = scene.all_in_focus()
    image = image.clamp(max=1)
    larger = [torch.repeat_interleave(torch.repeat_interleave(x, 2, -1), 2, -2) for x in (image, disparity)]
    cells = [f"{scene.name:8}"]
    for name, focus in scene.focus.items():
        rendered = render_bokeh(image, disparity, truth.RADIUS, focus)
        reduced = torch.nn.functional.avg_pool2d(render_bokeh(*larger, 2 * truth.RADIUS, focus), 2)
        cells.append(f"{name} {truth.psnr(truth.crop(rendered)[0], truth.crop(reduced)[0]):6.2f}")
    return "  ".join(cells)


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


def save(path: Path, pictures: list[torch.Tensor]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = truth.display(torch.cat(pictures, -1)).permute(1, 2, 0)
    Image.fromarray((255 * sheet).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
