"""What the commands call what they write beside a photo. None of it is a photograph when a folder is searched."""

import os

SWEEP = ".sweep"
SHOWS = ("depth", "coc", "layers", "focus")
ENDINGS = (".bokeh", ".depth", SWEEP, *(f".{show}-view" for show in SHOWS))


def is_own(name: str) -> bool:
    """Whether a file, or a folder of a sweep's pictures, is called so by argan."""
    return name.endswith(SWEEP) or bool(made_of(os.path.splitext(name)[0]))


def made_of(stem: str) -> str:
    """The stem of the photo that argan made a file of this stem from: "photo" of "photo.bokeh"; "" if it did not."""
    return next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), "")
