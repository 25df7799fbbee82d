"""The pictures of docs/gallery.md: each photo, its estimated depth, and renders at several blurs, side by side.

    python benchmarks/gallery.py PHOTO_OR_FOLDER... --out docs/gallery
    python benchmarks/gallery.py PHOTO... --out docs/photos.jpg --blurs 4 --cell 416       all in one picture

Photos are brought to the size of a cell first: the same blur is the same picture at every size. Depth is the shipped
model's, focus and grain are `auto`: what `argan render photo.jpg --blur B` does.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import argan
from argan.cli._batch import find_photos
from argan.images import read_photo, to_pil
from argan.models.hub import Model
from argan.views import depth_view

GAP = 6  # pixels between cells
QUALITY = 88


def strip(path: Path, model: Model, blurs: Sequence[float], cell: tuple[int, int]) -> Image.Image:
    """Photo, depth, and a render for each blur, from left to right; `cell` is the largest width and height of each."""
    image = to_pil(read_photo(path)).convert("RGB")
    image.thumbnail(cell, Image.Resampling.LANCZOS)
    disparity = argan.estimate_depth(image, model=model)
    renders = [argan.render(image, blur=blur, model=model) for blur in blurs]
    cells = [image, depth_view(disparity), *renders]
    width, height = cells[0].size
    row = Image.new("RGB", (len(cells) * (width + GAP) - GAP, height), "white")
    for index, picture in enumerate(cells):
        row.paste(picture, (index * (width + GAP), 0))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder, or FILE.jpg for one picture of all")
    parser.add_argument("--model", help="default: the shipped one")
    parser.add_argument("--blurs", type=float, nargs="+", default=[2, 4, 8])
    parser.add_argument(
        "--cell", type=int, default=360, help="pixels: the long side of a cell; in one picture its width"
    )
    options = parser.parse_args()
    model = argan.load(options.model)
    one = options.out.suffix == ".jpg"
    cell = (options.cell, 10 * options.cell if one else options.cell)
    strips = {path.stem: strip(path, model, options.blurs, cell) for path in find_photos(options.photos)}
    if one:
        strips = {options.out.stem: column(list(strips.values()))}
    folder = options.out.parent if one else options.out
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in strips.items():
        picture.save(folder / f"{name}.jpg", quality=QUALITY, optimize=True)
        print(folder / f"{name}.jpg", flush=True)


def column(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one width below each other."""
    heights = [picture.height + GAP for picture in pictures]
    whole = Image.new("RGB", (pictures[0].width, sum(heights) - GAP), "white")
    for picture, top in zip(pictures, itertools.accumulate([0, *heights]), strict=False):
        whole.paste(picture, (0, top))
    return whole


if __name__ == "__main__":
    main()
