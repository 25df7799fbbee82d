"""Published sets, on small look-alikes of their folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from argan.data.datasets import DATASETS, open_source
from argan.data.folder import PhotoFolder, square_around
from argan.errors import MissingError, UsageError


def picture(path, size=(40, 30), color=(90, 90, 90), box=None):
    """A plain picture with a white box (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), color, np.uint8)
    if box:
        pixels[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(pixels).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """All three in the folder that `$ARGAN_DATA` names."""
    monkeypatch.setenv("ARGAN_DATA", str(tmp_path))
    for index in range(3):
        picture(tmp_path / "102flowers" / "jpg" / f"image_{index + 1:05d}.jpg", color=(index, 200, 0))
    cub = tmp_path / "CUB_200_2011"
    birds = {
        "2 001.Black_footed_Albatross/Albatross_2.jpg": ("2 20.0 10.0 8.0 6.0", (20, 10, 28, 16)),
        "1 002.Laysan_Albatross/Albatross_1.jpg": ("1 30.0 2.0 10.0 10.0", (30, 2, 40, 12)),
    }
    for line, (_, box) in birds.items():
        picture(cub / "images" / line.split()[1], box=box)
    picture(cub / "images" / "unlisted.jpg")
    (cub / "images.txt").write_text("\n".join(birds) + "\n")
    (cub / "bounding_boxes.txt").write_text("".join(f"{box}\n" for box, _ in birds.values()))
    for index in range(2):
        picture(tmp_path / "ffhq-dataset" / "images1024x1024" / "00000" / f"{index:05d}.png", (256, 256), (1, 2, 3))
        picture(tmp_path / "ffhq-dataset" / "thumbnails128x128" / "00000" / f"{index:05d}.png", (128, 128), (7, 8, 9))
    return tmp_path


def test_flowers_are_read_by_name(sets):
    photos = PhotoFolder("oxford-flowers-102", 8, cache=False)
    assert photos.names == [f"image_{index:05d}.jpg" for index in (1, 2, 3)]
    assert photos.images.shape == (3, 3, 8, 8)


def test_birds_are_cropped_around_their_boxes(sets):
    photos = PhotoFolder("cub-200-2011", 24, cache=False)
    assert photos.names == [
        "001.Black_footed_Albatross/Albatross_2.jpg",
        "002.Laysan_Albatross/Albatross_1.jpg",
    ]
    centered, at_the_border = photos.images[:, 0].float()
    white = (centered > 170).float()
    assert white.mean() == pytest.approx(8 * 6 / 12**2, abs=0.06)  # a 12 px square around a box of 8 x 6
    rows, columns = torch.nonzero(white, as_tuple=True)
    assert (rows.float().mean() - 11.5).abs() < 1
    assert (columns.float().mean() - 11.5).abs() < 1
    white = (at_the_border > 170).float()
    assert white.mean() == pytest.approx(10 * 10 / 15**2, abs=0.06)
    assert torch.nonzero(white)[:, 1].float().mean() > 14  # pushed against the right edge, not beyond it


def test_faces_take_the_thumbnails_where_they_suffice(sets):
    assert PhotoFolder("ffhq", 128, cache=False).images[0, :, 0, 0].tolist() == [7, 8, 9]
    assert PhotoFolder("ffhq", 160, cache=False).images[0, :, 0, 0].tolist() == [1, 2, 3]
    full = sets / "ffhq-dataset" / "images1024x1024"
    full.rename(sets / "elsewhere")
    assert PhotoFolder("ffhq", 160, cache=False).images[0, :, 0, 0].tolist() == [7, 8, 9]


def test_a_folder_can_be_named(sets, monkeypatch):
    monkeypatch.delenv("ARGAN_DATA")
    assert len(PhotoFolder(f"cub-200-2011:{sets / 'CUB_200_2011'}", 8, cache=False)) == 2


def test_the_cache_follows_the_boxes(sets, tmp_path):
    cache = tmp_path / "cache"
    first = PhotoFolder("cub-200-2011", 12, cache=cache).images.clone()
    assert torch.equal(PhotoFolder("cub-200-2011", 12, cache=cache).images, first)
    boxes = sets / "CUB_200_2011" / "bounding_boxes.txt"
    boxes.write_text(boxes.read_text().replace("20.0 10.0 8.0 6.0", "2.0 2.0 8.0 6.0"))
    assert not torch.equal(PhotoFolder("cub-200-2011", 12, cache=cache).images, first)


@pytest.mark.parametrize("name", DATASETS)
def test_a_set_that_is_not_here_says_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGAN_DATA", str(tmp_path))
    with pytest.raises(MissingError, match=DATASETS[name].title) as caught, open_source(name):
        pass
    assert "download" in caught.value.hint
    assert f"--data {name}:FOLDER" in caught.value.hint
    assert caught.value.exit_code == 4


def test_lists_that_do_not_fit_together_are_an_error(sets):
    (sets / "CUB_200_2011" / "bounding_boxes.txt").write_text("1 30.0 2.0 10.0 10.0\n")
    with pytest.raises(UsageError, match="fit together"), open_source("cub-200-2011"):
        pass
    (sets / "CUB_200_2011" / "images.txt").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*images\.txt"), open_source("cub-200-2011"):
        pass


@pytest.mark.parametrize(
    ("subject", "square"),
    [
        ((20, 20, 40, 30), (15, 10, 45, 40)),
        ((0, 0, 20, 20), (0, 0, 30, 30)),
        ((90, 60, 100, 80), (70, 50, 100, 80)),
        ((0, 0, 100, 80), (10, 0, 90, 80)),
        ((10, 0, 100, 80), (15, 0, 95, 80)),
    ],
)
def test_squares_stay_inside_the_picture(subject, square):
    assert square_around(subject, (100, 80)) == pytest.approx(square)
