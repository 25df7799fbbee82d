"""What the commands call what they write beside a photo. None of it counts as a photograph."""

import os
from typing import Literal, get_args

Show = Literal["depth", "coc", "layers", "focus"]  # what a preview shows
SWEEP = ".sweep"
ENDINGS = (".bokeh", ".depth", SWEEP, *(f".{show}-view" for show in get_args(Show)))


def made_of(name: str) -> str:
    """The stem of the photo that argan made a file of this name from, or a sweep's folder: "photo" of
    "photo.bokeh.jpg" and of "photo.sweep"; "" if it did not."""
    stem = name if name.endswith(SWEEP) else os.path.splitext(name)[0]
    return next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), "")
