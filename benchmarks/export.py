"""Every target, format, precision and size of the shipped model: written, verified, and put in a table; and its speed.

    python benchmarks/export.py --docs docs/export.md [--results FILE] [--format onnx …]
    python benchmarks/export.py --speed

A combination that is in --results (one JSON object a line) already is not made again. The table takes the place of what
stands between its marks in the page. --speed times `depth` and `render` in ONNX Runtime beside PyTorch on the CPU.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from systems import write_between_marks

from argan.curves import SRGB
from argan.export import FORMATS, combinations, export_target, targets_of
from argan.export.formats import FIXED
from argan.export.metadata import read_size, size_text
from argan.focus import blur_radius
from argan.kernels import render_bokeh
from argan.models.hub import Model, load

SIZE = (512, 384)
PHOTO = Path(__file__).parents[1] / "examples" / "photo.jpg"
MARKS = "<!-- benchmarks/export.py -->", "<!-- end -->"
COLUMNS = ("file", "format", "precision", "size", "kB", "nodes", "largest", "mean", "dB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="the page whose table is written anew")
    parser.add_argument("--results", type=Path, help="where measured combinations are kept")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--speed", action="store_true", help="time depth and render instead")
    asked = parser.parse_args()
    model = load(None)
    if asked.speed:
        speed(model)
        return
    rows = measured(model, asked.format, asked.results)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|---|---|" + "--:|" * (len(COLUMNS) - 4)]
    lines += ["| " + " | ".join(str(row[column]) for column in COLUMNS) + " |" for row in rows]
    print("\n".join(lines))
    if asked.docs is not None:
        write_between_marks(asked.docs, "\n".join(lines), MARKS)


def measured(model: Model, formats: list[str], results: Path | None) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results and results.exists() else []
    done = {(row["file"], row["format"], row["precision"], row["size"]) for row in rows}
    for one in combinations():
        size = size_text(SIZE if one["size"] == FIXED else None)
        key = (one["target"], one["format"], one["precision"], size)
        if one["why_not"] is None and one["format"] in formats and key not in done:
            rows.append(measure(model, *key))
            print(*rows[-1].values(), flush=True)
            if results is not None:
                with results.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    order = [(one["target"], one["format"], one["precision"]) for one in combinations()]
    return sorted(rows, key=lambda row: order.index((row["file"], row["format"], row["precision"])))


def measure(model: Model, name: str, format: str, precision: str, size: str) -> dict[str, object]:
    """Write and verify one file. VerificationError if it is not as near to PyTorch as its precision says."""
    (target,) = targets_of(model, name, precision, read_size(size))
    with tempfile.TemporaryDirectory() as folder:
        file = export_target(target, format, Path(folder))
    mean = max(one.relative_mean for one in file.differences)
    psnr = min(one.psnr for one in file.differences)
    key = dict(zip(COLUMNS, (name, format, precision, size), strict=False))
    figures = (round(file.bytes / 1000), file.nodes or "-", f"{file.relative:.1e}", f"{mean:.1e}", f"{psnr:.0f}")
    return {**key, **dict(zip(COLUMNS[4:], figures, strict=True))}


def speed(model: Model, size: tuple[int, int] = (1180, 850), repeats: int = 4) -> None:
    """Seconds, least of `repeats`, after checking that both give the same picture to 35 dB."""
    photo = torch.from_numpy(np.array(Image.open(PHOTO).convert("RGB").resize(size), np.float32) / 255)
    image = photo.permute(2, 0, 1)[None].contiguous()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        depth, render = (session(model, name, Path(folder)) for name in ("depth", "render"))
        disparity = model.depth(image)
        found = depth({"image": image.numpy()})
        assert np.abs(found - disparity.numpy()).max() < 1e-3
        ours, theirs = (
            least(lambda: depth({"image": image.numpy()}), repeats),
            least(lambda: model.depth(image), repeats),
        )
        print(f"depth: {ours:.2f} s in ONNX Runtime, {theirs:.2f} s in PyTorch, {ours / theirs:.2f} x", flush=True)
        for blur in (2.0, 5.0):
            inputs = {"image": image.numpy(), "disparity": disparity.numpy()}
            inputs |= {"blur": np.array([blur], np.float32), "focus": np.array([model.depth.focus], np.float32)}

            def reference(blur: float = blur) -> torch.Tensor:
                radius = blur_radius(blur, max(size))
                return SRGB.encode(
                    render_bokeh(SRGB.decode(image), disparity, radius, model.depth.focus, impl="reference")
                )

            psnr = -10 * np.log10(np.square(render(inputs) - reference().numpy()).mean())
            assert psnr > 35, psnr
            ours, theirs = least(lambda inputs=inputs: render(inputs), repeats), least(reference, repeats)
            print(
                f"render, blur {blur:g}: {ours:.2f} s in ONNX Runtime, {theirs:.2f} s in PyTorch, "
                f"{ours / theirs:.2f} x, {psnr:.0f} dB",
                flush=True,
            )


def session(model: Model, name: str, folder: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    (target,) = targets_of(model, name)
    FORMATS["onnx"].write(target, folder / f"{name}.onnx")
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = options.enable_mem_reuse = False  # as argan.runtime has them
    opened = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    return lambda inputs: opened.run(None, inputs)[0]


def least(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
