"""Photographs of which depth or figure is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from argan.data.sources import FolderSource
from argan.depth_maps import write_depth
from argan.errors import UsageError
from argan.evaluation.depth import depth_against_masks
from argan.evaluation.truth import confident_masks, held_out, masked_photos, photos_with_depth, some_photos


def test_held_out_photographs_depend_on_the_seed_and_are_not_those_of_training():
    from argan.data.synthetic import SyntheticPhotos

    first, again, other = (next(iter(held_out(16, 1, seed)))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, SyntheticPhotos(16, 0, seed=0).sample(0)[0])


@pytest.mark.parametrize("ending", ["inv", "depth"])
def test_photographs_come_with_their_depth_and_without_what_is_unknown(tmp_path, ending):
    Image.new("RGB", (40, 20), (10, 20, 30)).save(tmp_path / "scene.jpg")
    depth = np.full((20, 40), 30000, np.uint16)
    depth[:, 20:] = 0
    Image.fromarray(depth).save(tmp_path / f"scene.{ending}.png")
    ((photo, truth),) = photos_with_depth(tmp_path, side=32)
    assert photo.shape == (3, 16, 32)
    assert truth.shape == (1, 16, 32)
    assert truth[0, :, 16:].isnan().all()
    torch.testing.assert_close(truth[0, :, :16], torch.full((16, 16), 30000 / 65535))


def test_depth_maps_without_photographs_are_an_error(tmp_path):
    with pytest.raises(UsageError, match="no depth maps"):
        list(photos_with_depth(tmp_path))
    Image.new("L", (8, 8), 1).save(tmp_path / "alone.inv.png")
    with pytest.raises(UsageError, match="no photograph beside"):
        list(photos_with_depth(tmp_path))


@pytest.fixture
def flowers(tmp_path):
    """Four photographs whose figure is bright, and a mask of each, named by number and by name."""
    data, masks = tmp_path / "data", tmp_path / "masks"
    data.mkdir()
    masks.mkdir()
    for index in range(4):
        picture = np.zeros((64, 64), np.uint8)
        picture[8 * index + 4 : 8 * index + 36, 10:40] = 255
        Image.fromarray(picture).convert("RGB").save(data / f"image_{index + 1:05}.png")
        name = f"{index:05}.png" if index < 3 else "image_00004.png"
        Image.fromarray(picture).resize((32, 32)).save(masks / name)
    return data, masks


def brightness(image):
    return image.mean(1, keepdim=True)


def test_masks_find_their_photographs_by_number_and_by_name(flowers):
    pairs = list(masked_photos(*flowers))
    assert len(pairs) == 4
    for photo, mask in pairs:
        assert photo.shape == (3, 32, 32)
        assert mask.shape == (32, 32)
        assert (photo[0][mask] > 0.5).all()
        assert (photo[0][~mask] < 0.5).all()
    (row,) = depth_against_masks(brightness, pairs)
    assert row.value == row.low == row.high == 1
    assert 0 < row.centre_prior < 1
    assert row.better == "higher"
    assert depth_against_masks(lambda image: -brightness(image), pairs)[0].value == 0


def test_unsure_masks_and_those_without_figure_or_ground_are_left_out(flowers):
    data, masks = flowers
    lines = ["name\tconfidence", "00000.png\t0.95", "00001.png\t0.9", "00002.png\t0.99", "image_00004.png\t0.2"]
    (masks / "manifest.tsv").write_text("\n".join(lines))
    assert len(list(masked_photos(data, masks))) == 2
    Image.new("L", (32, 32), 255).save(masks / "00000.png")  # all figure
    assert len(list(masked_photos(data, masks))) == 1


def test_a_manifest_that_a_spreadsheet_wrote(flowers):
    """In UTF-8 with a mark in front, whatever this system's own encoding is."""
    _, masks = flowers
    (masks / "00000.png").rename(masks / "blüte.png")
    (masks / "manifest.tsv").write_text("name\tconfidence\nblüte.png\t0.2", encoding="utf-8-sig")
    assert masks / "blüte.png" not in confident_masks(masks)


def test_masks_of_too_little_figure_and_those_that_the_manifest_does_not_name(flowers):
    data, masks = flowers
    (masks / "manifest.tsv").write_text("name\tconfidence\n00000.png\t0.2")
    assert len(list(masked_photos(data, masks))) == 3
    speck = np.zeros((32, 32), np.uint8)
    speck[:8, :8] = 255  # 6 %
    Image.fromarray(speck).save(masks / "00001.png")
    assert len(list(masked_photos(data, masks))) == 2


def test_a_mask_of_one_number_too_many_and_one_of_two_photographs_are_errors(flowers):
    data, masks = flowers
    (masks / "00001.png").rename(masks / "00004.png")
    with pytest.raises(UsageError, match=r"00004\.png has no photograph"):
        list(masked_photos(data, masks))
    (masks / "00004.png").unlink()
    Image.new("RGB", (64, 64)).save(data / "image_00004.jpg")
    with pytest.raises(UsageError, match=r"image_00004\.png could belong to any of several photographs"):
        list(masked_photos(data, masks))


def test_masks_that_cannot_be_used_are_an_error(flowers, tmp_path):
    data, masks = flowers
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no usable mask"):
        list(masked_photos(data, tmp_path / "none"))
    (masks / "00001.png").rename(masks / "00077.png")
    with pytest.raises(UsageError, match=r"00077\.png has no photograph"):
        list(masked_photos(data, masks))


def test_a_masked_photograph_that_cannot_be_read_is_named_and_left_out(flowers):
    data, masks = flowers
    (data / "image_00002.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"image_00002\.png was left out"):
        assert len(list(masked_photos(data, masks))) == 3


def test_a_photograph_is_no_mask(flowers):
    data, masks = flowers
    grey = np.linspace(30, 220, 32 * 32).reshape(32, 32).astype(np.uint8)
    Image.fromarray(grey).save(masks / "00001.png")
    with pytest.raises(UsageError, match=r"00001\.png is no mask"):
        list(masked_photos(data, masks))


def test_confidence_that_is_no_number_is_an_error(flowers):
    _, masks = flowers
    for line in ("00000.png\tna", "00000.png"):
        (masks / "manifest.tsv").write_text(f"name\tconfidence\n{line}\n")
        with pytest.raises(UsageError, match=r"manifest\.tsv: a confidence is a number"):
            confident_masks(masks)


def test_photographs_are_turned_as_their_depth_is(tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)
    turned = Image.fromarray(np.rot90(upright))  # as a camera held upright stores it
    exif = Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "a.png", exif=exif)
    write_depth(tmp_path / "a.depth.png", np.linspace(0.1, 1, 40)[:, None].repeat(24, axis=1))
    ((photo, truth),) = photos_with_depth(tmp_path, side=40)
    assert photo.shape[1:] == truth.shape[1:] == (40, 24)
    assert np.array_equal((photo * 255).round().byte().permute(1, 2, 0).numpy(), upright)
    write_depth(tmp_path / "a.depth.png", np.linspace(0.1, 1, 40)[None].repeat(24, axis=0))
    with pytest.raises(UsageError, match=r"a\.depth\.png: .* differ in shape"):
        list(photos_with_depth(tmp_path, side=40))


def test_a_very_long_photograph_keeps_a_pixel_across(tmp_path):
    Image.new("RGB", (3000, 1)).save(tmp_path / "a.png")
    write_depth(tmp_path / "a.depth.png", np.linspace(0.1, 1, 3000)[None])
    ((photo, truth),) = photos_with_depth(tmp_path, side=64)
    assert photo.shape[1:] == truth.shape[1:] == (1, 64)


def test_a_depth_map_finds_its_photograph_among_files_with_names_like_it(tmp_path):
    """Beside notes, and a photograph whose name goes on; brackets in a name are no pattern."""
    for name, colour in (("a [1].png", "red"), ("a [1].crop.png", "blue"), ("a 1.png", "green")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    (tmp_path / "a [1].json").write_text("{}")
    write_depth(tmp_path / "a [1].depth.png", np.linspace(0.1, 1, 64).reshape(8, 8))
    ((photo, _),) = photos_with_depth(tmp_path, side=8)
    assert photo[:, 0, 0].tolist() == [1, 0, 0]
    (tmp_path / "a [1].png").unlink()
    with pytest.raises(UsageError, match="no photograph beside"):
        list(photos_with_depth(tmp_path, side=8))


def test_no_depth_lies_between_two_surfaces(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    write_depth(tmp_path / "a.depth.png", np.where(np.arange(40) % 3, 0.25, 1.0)[None].repeat(40, axis=0))
    ((_, truth),) = photos_with_depth(tmp_path, side=17)
    assert {round(value, 2) for value in truth.unique().tolist()} == {0.25, 1.0}


def test_some_photographs_are_as_many_as_asked_for_and_chosen_by_the_seed(tmp_path):
    for level in range(0, 250, 25):
        Image.new("RGB", (30, 30), (level,) * 3).save(tmp_path / f"{level:03}.png")

    def levels(seed):
        return [round(255 * float(photo.mean())) for photo in some_photos(str(tmp_path), 4, seed, side=8)]

    assert len(set(levels(0))) == 4
    assert levels(0) == levels(0)
    assert levels(0) != levels(1)


def test_photographs_that_cannot_be_read_are_made_up_for(tmp_path):
    for level in range(0, 250, 25):
        Image.new("RGB", (30, 30), (level,) * 3).save(tmp_path / f"{level:03}.png")
    whole = [round(255 * float(photo.mean())) for photo in some_photos(str(tmp_path), 5, 0, side=8)]
    (tmp_path / f"{whole[1]:03}.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=f"{whole[1]:03}.png was left out"):
        found = [round(255 * float(photo.mean())) for photo in some_photos(str(tmp_path), 4, 0, side=8)]
    assert found == [whole[0], *whole[2:]]


def test_photographs_are_cropped_around_their_subject(tmp_path, monkeypatch):
    photo = Image.new("RGB", (60, 30))
    photo.paste((255, 255, 255), (40, 5, 60, 25))
    photo.save(tmp_path / "bird.png")
    monkeypatch.setattr(FolderSource, "subject", lambda source, name: (46, 10, 54, 18))
    (square,) = some_photos(str(tmp_path), 1, seed=0, side=8)
    assert (square == 1).all()


def test_photographs_that_cannot_be_read_are_left_out(tmp_path):
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"bad\.png"):
        photos = list(some_photos(str(tmp_path), 5, seed=0, side=16))
    assert [photo.shape for photo in photos] == [(3, 16, 16)]
