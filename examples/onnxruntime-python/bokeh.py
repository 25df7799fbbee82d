"""A photo's depth of field made shallow by argan's exported pipeline.onnx, with numpy, Pillow and ONNX Runtime alone.

argan export --format onnx
python bokeh.py argan-export/pipeline.onnx photo.jpg result.jpg --blur 4
"""

import argparse

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description="Blur what is out of focus.")
parser.add_argument("model", help="pipeline.onnx")
parser.add_argument("photo")
parser.add_argument("result")
parser.add_argument("--blur", type=float, default=2.0, help="largest disc: its diameter in percent of the long side")
parser.add_argument("--focus", type=float, default=-1, help="disparity in focus, 0 far to 1 near; -1 as learned")
parser.add_argument("--depth", help="write the disparity that was estimated as a 16-bit PNG")
arguments = parser.parse_args()

photo = ImageOps.exif_transpose(Image.open(arguments.photo))
if photo.mode.startswith("I"):
    parser.error("16 bits a pixel: argan.runtime takes them")
profile = None if photo.mode in ("L", "LA", "CMYK") else photo.info.get("icc_profile")  # theirs is not one of RGB
photo = photo.convert("RGB")
image = np.asarray(photo, np.float32).transpose(2, 0, 1)[None] / 255  # (1, 3, H, W) in [0, 1]

options = onnxruntime.SessionOptions()
options.enable_mem_reuse = False  # a graph of any size opens in a tenth of the time
session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
scalars = [np.array([value], np.float32) for value in (arguments.blur, arguments.focus)]
names = [value.name for value in session.get_inputs()]
rendered, disparity = session.run(None, dict(zip(names, [image, *scalars], strict=True)))

pixels = np.clip(rendered[0].transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
Image.fromarray(pixels).save(arguments.result, quality=95, icc_profile=profile)
if arguments.depth:
    Image.fromarray((disparity[0, 0] * 65535 + 0.5).astype(np.uint16)).save(arguments.depth)
