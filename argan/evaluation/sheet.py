"""A picture of what is measured, for people to judge by."""

from pathlib import Path

import torch
from torch import Tensor

from argan.errors import ArganError, UsageError
from argan.evaluation.depth import Depth
from argan.evaluation.samples import draw_samples
from argan.evaluation.truth import held_out, some_photos
from argan.models.hub import Model
from argan.training import pictures

SHEET_COLUMNS = 8
SHEET_SIDE = 128  # px of each picture of the sheet


def save_sheet(model: Model, data: str, seed: int, surrogate: Depth | None, path: Path, device: torch.device) -> None:
    """A picture for people: samples (deep, shallow, depth), then photographs with their depth.

    Below each photograph: the estimated depth and, where there is one, the true depth or the surrogate's; nearer is
    brighter.
    """
    rows: list[Tensor] = []
    if model.generator is not None:
        deep, shallow, disparity = next(draw_samples(model, SHEET_COLUMNS, seed, device))
        rows += [deep, shallow, pictures.depth_picture(disparity)]
    if model.depth is not None:
        if data == "synthetic":
            known = list(held_out(model.depth.resolution, SHEET_COLUMNS, seed))
            photos, truths = (torch.stack(part) for part in zip(*known, strict=True))
            maps = [model.depth(photos.to(device)), truths]
        else:
            shown = list(some_photos(data, SHEET_COLUMNS, seed))
            if not shown:
                raise ArganError(f"no photograph of {data} can be read")
            photos = torch.stack(shown)
            maps = [model.depth(photos.to(device))]
            if surrogate is not None:
                maps.append(torch.cat([surrogate(photo[None]) for photo in photos]))
        rows += [photos, *(pictures.depth_picture(depth) for depth in maps)]
    if not rows:
        raise UsageError("a model without generator and depth has nothing for a sheet")
    pictures.save_picture([pictures.fit(row.cpu(), SHEET_SIDE, SHEET_COLUMNS) for row in rows], path)
