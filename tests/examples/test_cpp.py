"""examples/cpp: built with CMake against the LibTorch of the installed PyTorch, the same pixels as in Python."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from argan import runtime
from argan.images import read_photo

SOURCE = Path(__file__).parents[2] / "examples" / "cpp"
MISSING = [name for name in ("cmake", "c++") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="LibTorch with CUDA needs the CUDA toolkit to build"),
]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    build = tmp_path_factory.mktemp("cpp")
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for step in (["cmake", "-S", SOURCE, "-B", build, prefix], ["cmake", "--build", build]):
        done = subprocess.run(step, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return next(path for path in build.rglob("bokeh*") if path.is_file() and path.suffix in ("", ".exe"))


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_same_pixels_as_python(program, models, photo, tmp_path):
    Image.open(photo).save(tmp_path / "photo.ppm")
    done = run(program, models / "pipeline.pt", tmp_path / "photo.ppm", tmp_path / "result.ppm", 6, 0.4)
    assert done.returncode == 0, done.stderr
    found = np.asarray(Image.open(tmp_path / "result.ppm")).astype(int)
    expected = runtime.load(models / "pipeline.onnx", device="cpu").render(read_photo(photo), blur=6, focus=0.4)
    assert np.abs(found - expected.photo.pixels).max() <= 1
    assert np.abs(found - np.asarray(Image.open(photo))).max() > 10


def test_failures(program, models, photo, tmp_path):
    assert run(program).returncode == 2
    Image.open(photo).save(tmp_path / "photo.ppm")
    (tmp_path / "cut.ppm").write_bytes((tmp_path / "photo.ppm").read_bytes()[:1000])
    for name, text in (("cut.ppm", "cut short"), ("none.ppm", "not a binary PPM")):
        done = run(program, models / "pipeline.pt", tmp_path / name, tmp_path / "result.ppm")
        assert done.returncode == 1
        assert text in done.stderr
    for text in ("four", "4x", ""):
        done = run(program, models / "pipeline.pt", tmp_path / "photo.ppm", tmp_path / "result.ppm", text)
        assert (done.returncode, "is no number" in done.stderr) == (1, True)
    assert not (tmp_path / "result.ppm").exists()
