"""examples/onnxruntime-python: numpy, Pillow and ONNX Runtime alone, the same pixels as argan.runtime."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from argan import runtime
from argan.images import read_photo

SCRIPT = Path(__file__).parents[2] / "examples" / "onnxruntime-python" / "bokeh.py"


def run(*arguments):
    """The script in a process that cannot import torch or argan."""
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'argan']));"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_same_pixels_as_argan(models, photo, tmp_path):
    options = ["--blur", 6, "--focus", 0.4, "--depth", tmp_path / "depth.png"]
    done = run(models / "pipeline.onnx", photo, tmp_path / "result.png", *options)
    assert done.returncode == 0, done.stderr
    expected = runtime.load(models / "pipeline.onnx").render(read_photo(photo), blur=6, focus=0.4)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "result.png")), expected.photo.pixels)
    stored = np.asarray(Image.open(tmp_path / "depth.png")) / 65535
    np.testing.assert_allclose(stored, expected.disparity, atol=1e-5)


def test_only_a_profile_of_rgb_is_kept(models, photo, tmp_path):
    for mode, kept in (("RGB", True), ("L", False), ("CMYK", False)):
        Image.open(photo).convert(mode).save(tmp_path / f"{mode}.jpg", icc_profile=b"a profile")
        run(models / "pipeline.onnx", tmp_path / f"{mode}.jpg", tmp_path / f"{mode}-result.jpg").check_returncode()
        assert ("icc_profile" in Image.open(tmp_path / f"{mode}-result.jpg").info) == kept


def test_learned_focus(models, photo, tmp_path):
    done = run(models / "pipeline.onnx", photo, tmp_path / "result.png")
    assert done.returncode == 0, done.stderr
    expected = runtime.load(models / "pipeline.onnx").render(read_photo(photo)).photo.pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "result.png")), expected)
