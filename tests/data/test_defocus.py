"""What is sharp in a photograph is told from what is blurred, whatever it shows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from argan.data.defocus import FINE, LEAST, focus_map, focus_maps

S = 16


def photo(side: int = FINE * S, sigma: float = 3.0, contrast: tuple[float, float] = (1, 1)) -> Image.Image:
    """Clouds, blurred on the right; of these contrasts on the left and on the right."""
    rng = np.random.default_rng(0)
    field = sum(
        np.asarray(Image.fromarray(rng.normal(size=(side >> k, side >> k)).astype(np.float32)).resize((side, side), 3))
        for k in range(4)
    )
    halves = np.where(np.arange(side) < side // 2, *contrast)
    sharp = Image.fromarray((128 + 30 * field * halves).clip(0, 255).astype(np.uint8)).convert("RGB")
    blurred = sharp.filter(ImageFilter.GaussianBlur(sigma * side / (FINE * S)))
    sharp.paste(blurred.crop((side // 2, 0, side, side)), (side // 2, 0))
    return sharp


def maps(folder: Path, *photos: Image.Image) -> list[torch.Tensor]:
    for index, one in enumerate(photos):
        one.save(folder / f"{index}.png")
    return [one[0, 0].float() for one in focus_maps(str(folder), [f"{n}.png" for n in range(len(photos))], S)]


@pytest.mark.parametrize("contrast", [(1, 1), (0.3, 1), (1, 0.3)])
@pytest.mark.parametrize("side", [FINE * S, 3 * FINE * S])
def test_what_is_sharp_stands_out_whatever_its_contrast(tmp_path: Path, side: int, contrast: tuple) -> None:
    (found,) = maps(tmp_path, photo(side, 3.0, contrast))
    assert found.shape == (S, S)
    assert found[:, : S // 2 - 1].min() > found[:, S // 2 + 1 :].max()
    assert found[:, : S // 2 - 1].mean() > 0.3
    assert found[:, S // 2 + 1 :].mean() < -0.1


def test_where_nothing_is_to_be_seen_nothing_is_said(tmp_path: Path) -> None:
    half = photo()
    half.paste((90, 90, 90), (0, 0, half.width, half.height // 2))
    flat, partly = maps(tmp_path, Image.new("RGB", (200, 200), (90, 90, 90)), half)
    assert not flat.any()
    assert partly[: S // 2 - 1].abs().max() < 0.1 * partly[S // 2 + 1 :].abs().max()


def test_small_photographs_show_no_blur(tmp_path: Path) -> None:
    small, large = maps(tmp_path, photo(LEAST * S - 8), photo(LEAST * S))
    assert not small.any()
    assert large.any()


def test_of_a_photograph_with_a_box_around_its_subject_the_square_around_that(tmp_path: Path) -> None:
    whole = photo(3 * FINE * S)
    whole.save(tmp_path / "whole.png")
    whole.crop((96, 80, 96 + 192, 80 + 192)).save(tmp_path / "square.png")
    whole, square = ((tmp_path / name).read_bytes() for name in ("whole.png", "square.png"))
    found, expected = focus_map(whole, S, (128, 112, 256, 240)), focus_map(square, S)
    assert (found - expected).abs().max() < 0.02  # at the rim pixels beyond it have a share
    assert expected.abs().max() > 0.5
    assert not focus_map(whole, S, (128, 112, 148, 132)).any()  # too small


def test_heic_is_read_in_a_process_that_has_read_none(tmp_path: Path) -> None:
    """As where the pictures themselves come from the cache."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(photo()).save(tmp_path / "a.heic", quality=90)
    read = "focus_map(open(sys.argv[1], 'rb').read(), 16)"
    program = f"import sys; from argan.data.defocus import focus_map; print(bool({read}.any()))"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.heic"], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_each_photograph_has_its_own_in_order_and_turned_upright(tmp_path: Path) -> None:
    turned = photo().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned.save(tmp_path / "a.png", exif=exif)
    photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    upright, mirrored = (one[0, 0].float() for one in focus_maps(str(tmp_path), ["a.png", "b.png"], S))
    assert upright[:, : S // 2 - 1].mean() > upright[:, S // 2 + 1 :].mean()
    assert mirrored[:, : S // 2 - 1].mean() < mirrored[:, S // 2 + 1 :].mean()
