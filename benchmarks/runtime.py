"""What `argan.runtime` needs for render.onnx: memory a pixel, and how far tiles are from one run.

python benchmarks/runtime.py argan-export/render.onnx

Linux; the peak of memory is read from the kernel, in a process of its own for every size.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from argan import runtime
from argan.focus import blur_radius
from argan.images import Photo
from argan.runtime import exported, tiles

SMALLER_TILES = 832  # px: so that the test picture takes several


def scene(height: int, width: int) -> tuple[Photo, np.ndarray]:
    """Noise over a ramp, and blocks of 80 px at random depths: edges everywhere."""
    random = np.random.default_rng(0)
    ramp = np.linspace(40, 200, width)[None, :, None] + random.normal(0, 20, (height, width, 3))
    blocks = np.kron(random.random((height // 80 + 1, width // 80 + 1)), np.ones((80, 80)))[:height, :width]
    return Photo(np.clip(ramp, 0, 255).astype(np.uint8)), blocks.astype(np.float32)


def peak() -> float:
    """Of this process's memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(path: Path, side: int) -> tuple[float, float]:
    """Bytes a pixel and seconds for a square that is one tile, the second of two runs."""
    model = runtime.load(path, device="cpu")
    photo, depth = scene(side, side)
    before = peak()
    for _ in range(2):
        start = time.perf_counter()
        model.render(photo, blur=4, focus=0.2, depth=depth)
    return (peak() - before) / side**2, time.perf_counter() - start


def seams(path: Path) -> Iterator[tuple[float, int, float]]:
    """Blur, number of tiles, and the largest difference of tiles from one run, in steps of 8 bits."""
    model = runtime.load(path, device="cpu")
    assert isinstance(model, runtime.RenderFile)
    photo, depth = scene(720, 1280)
    photo = photo.with_pixels(photo.pixels.astype(np.float32) / 255)  # not rounded
    for blur in (1, 4, 16):
        exported.tiles = tiles.tiles
        whole = model.render(photo, blur=blur, focus=0.2, depth=depth).photo.pixels
        exported.tiles = lambda *picture: tiles.tiles(*picture, whole=SMALLER_TILES)
        tiled = model.render(photo, blur=blur, focus=0.2, depth=depth).photo.pixels
        count = len(list(exported.tiles(720, 1280, blur_radius(blur, 1280))))
        yield blur, count, 255 * float(np.abs(tiled - whole).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("render", type=Path, help="render.onnx")
    path = parser.parse_args().render
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for side in (512, 1024, tiles.WHOLE):
            per_pixel, seconds = pool.apply(memory, (path, side))
            print(
                f"{side} x {side}: {per_pixel:.0f} bytes a pixel, {per_pixel * side**2 / 1e9:.2f} GB, {seconds:.2f} s"
            )
    for blur, count, difference in seams(path):
        print(f"1280 x 720, blur {blur} %: {count} tiles differ from one run by {difference:.4f} / 255 at most")


if __name__ == "__main__":
    main()
