"""The pictures of docs/gallery.md: each photo, its estimated depth, and renders at several blurs, side by side.

    python benchmarks/gallery.py PHOTO_OR_FOLDER... --out docs/gallery

Photos are brought to the size of a cell first: the same blur is the same picture at every size. Depth is the shipped
model's, focus and grain are `auto`: what `argan render photo.jpg --blur B` does.
"""

import argparse
from pathlib import Path

from PIL import Image

import argan
from argan.cli._batch import find_photos
from argan.images import read_photo, to_pil
from argan.models.hub import Model
from argan.views import depth_view

BLURS = (2, 4, 8)
CELL, GAP = 360, 6  # pixels: long side of a cell, and between cells
QUALITY = 88


def strip(path: Path, model: Model) -> Image.Image:
    """Photo, depth, and a render for each of BLURS, from left to right."""
    image = to_pil(read_photo(path)).convert("RGB")
    image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    disparity = argan.estimate_depth(image, model=model)
    renders = [argan.render(image, blur=blur, model=model) for blur in BLURS]
    cells = [image, depth_view(disparity), *renders]
    width, height = cells[0].size
    row = Image.new("RGB", (len(cells) * (width + GAP) - GAP, height), "white")
    for index, cell in enumerate(cells):
        row.paste(cell, (index * (width + GAP), 0))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = argan.load()
    for path in find_photos(options.photos):
        target = options.out / f"{path.stem}.jpg"
        strip(path, model).save(target, quality=QUALITY, optimize=True)
        print(target, flush=True)


if __name__ == "__main__":
    main()
