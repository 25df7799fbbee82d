"""AR-GAN-DR beside CycleGAN on held-out photographs: colours of what is in focus, blur of what is not.

    argan train --preset cyclegan --data oxford-flowers-102.zip
    python benchmarks/cyclegan_study.py runs/cyclegan --model flowers --data flowers-other-source/ [--shown PHOTOS]

Both make shallow photographs of deep ones. CycleGAN has seen unpaired photographs of both kinds and gives no depth;
AR-GAN-DR estimates depth and renders. What should stay as it is, is the subject in focus: the region where the
estimated disparity is in the band that the estimator keeps sharp, or the figure where there are masks. Measured there:
the shift of the mean colour (CIE 1976, L*a*b* under D65) and the sharpness that is kept; and everywhere else the
sharpness that is left.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import argan
from argan.evaluation.truth import masked_photos, some_photos
from argan.light import to_linear
from argan.metrics import gradient_energy, mean_interval
from argan.models.hub import load
from argan.models.resize import resize
from argan.training import pictures

CELL = 128  # px of a photograph in the picture, at least
SMALLEST_REGION = 0.02  # of the photograph; without that much in and out of focus there is nothing to compare
TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(dim=1)  # D65


def main() -> None:
    arguments = parse_arguments()
    renderer, translator = load(arguments.model), load(arguments.cyclegan).translator
    if translator is None or renderer.depth is None:
        raise SystemExit(f"{arguments.cyclegan} must be a CycleGAN run, and {arguments.model} have a depth estimator")
    depth, width = renderer.depth, renderer.depth.focus_range or 0.0
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "AR-GAN-DR": lambda photo: argan.render(photo, model=renderer, blur=arguments.blur),
        "CycleGAN": lambda photo: translator(photo[None])[0],
    }
    scores: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    with torch.no_grad():
        for photo, figure in photographs(arguments):
            disparity = torch.as_tensor(argan.estimate_depth(photo, model=renderer))
            focused = figure if figure is not None else (disparity - depth.focus).abs() <= width / 2
            if min(focused.float().mean(), (~focused).float().mean()) < SMALLEST_REGION:
                continue
            for method, make in methods.items():
                scores[method].append(compare(photo, make(photo), focused))
        shown = torch.stack([*some_photos(arguments.shown or arguments.data, arguments.columns, 0, arguments.side)])
        rows = [shown, *(torch.stack([*map(make, shown)]) for make in methods.values())]
    text = report(scores, arguments, width)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "study.md").write_text(text + "\n")
    (arguments.out / "study.json").write_text(json.dumps(scores, indent=2) + "\n")
    pictures.save_picture(
        [pictures.fit(row, max(CELL, arguments.side), len(row)) for row in rows], arguments.out / "study.png"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cyclegan", help="a run of argan train --preset cyclegan")
    parser.add_argument("--model", default="flowers", help="a model with a depth estimator")
    parser.add_argument("--data", required=True, help="held-out photographs: folder, zip or data set")
    parser.add_argument("--masks", type=Path, help="figure masks of the photographs: what is in focus")
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--side", type=int, default=128, help="px: CycleGAN is given what it was trained on")
    parser.add_argument("--blur", type=float, default=4.0, help="percent of the photo's long side")
    parser.add_argument("--shown", help="photographs that the picture is made of; default those of --data")
    parser.add_argument("--columns", type=int, default=10, help="how many of them")
    parser.add_argument("--out", type=Path, default=Path("runs/cyclegan-study"))
    return parser.parse_args()


def photographs(arguments: argparse.Namespace) -> Iterable[tuple[Tensor, Tensor | None]]:
    """Squares (3, S, S), each with the mask (S, S) of its figure or None."""
    if arguments.masks:
        pairs = islice(masked_photos(arguments.data, arguments.masks), arguments.num)
        size = (arguments.side, arguments.side)
        return ((resize(x[None], size)[0], resize(mask[None, None].float(), size)[0, 0] > 0.5) for x, mask in pairs)
    return ((photo, None) for photo in some_photos(arguments.data, arguments.num, seed=0, side=arguments.side))


def compare(photo: Tensor, picture: Tensor, focused: Tensor) -> dict[str, float]:
    """One photograph (3, S, S) and what was made of it, in focus and out of it."""
    shift = lab(picture)[:, focused].mean(dim=1) - lab(photo)[:, focused].mean(dim=1)
    before, after, inner = gradient_energy(photo), gradient_energy(picture), focused[1:-1, 1:-1]
    return {
        "colour shift in focus": float(shift.norm()),
        "sharpness kept in focus": float(after[inner].mean() / before[inner].mean()),
        "sharpness left out of focus": float(after[~inner].mean() / before[~inner].mean()),
    }


def lab(image: Tensor) -> Tensor:
    """sRGB (3, H, W) in [0, 1] -> CIE L*a*b* (3, H, W)."""
    xyz = torch.einsum("ij,jhw->ihw", TO_XYZ / WHITE[:, None], to_linear(image.clamp(0, 1)))
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-9) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def report(scores: dict[str, list[dict[str, float]]], arguments: argparse.Namespace, width: float) -> str:
    """Markdown: a row a method, means with their 95 % bootstrap intervals."""
    names = list(next(iter(scores.values()))[0])
    lines = ["| | " + " | ".join(names) + " | depth |", "|---" * (len(names) + 2) + "|"]
    for method, values in scores.items():
        cells = []
        for name in names:
            interval = mean_interval([value[name] for value in values])
            cells.append(f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})")
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {'yes' if method == 'AR-GAN-DR' else 'no'} |")
    count = len(scores["CycleGAN"])
    what = "the figure of each mask" if arguments.masks else f"disparity within {width / 2:.2f} of the focus"
    return "\n".join([f"{count} photographs of {Path(arguments.data).name}; in focus: {what}.", "", *lines])


if __name__ == "__main__":
    main()
