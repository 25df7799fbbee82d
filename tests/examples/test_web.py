"""examples/web in headless Chromium: a photo, a click to focus, the slider; the same pixels as in Python."""

import base64
import functools
import http.server
import io
import shutil
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from argan import runtime
from argan.images import read_photo
from tests.examples.browser import chromium
from tests.examples.conftest import psnr

SOURCE = Path(__file__).parents[2] / "examples" / "web"
MISSING = [name for name in ("npm", "chromedriver") if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


class Site(NamedTuple):
    address: str
    folder: Path


@pytest.fixture(scope="module")
def site(models, photo, tmp_path_factory):
    """The page on a plain static server, with the tiny model's files and the photo beside it."""
    folder = tmp_path_factory.mktemp("site")
    for file in SOURCE.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm install failed: {' '.join(done.stderr.split())[:200]}")
    (folder / "models").mkdir()
    for name in ("depth.onnx", "render.onnx"):
        shutil.copy(models / name, folder / "models")
    shutil.copy(photo, folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(f"http://127.0.0.1:{server.server_port}", folder)
    server.shutdown()


IDLE = "document.getElementById('busy').hidden"
STATUS = "return document.getElementById('status').textContent"
MOVE = "const it = document.getElementById(arguments[0]); it.value = arguments[1]; it.dispatchEvent(new Event('input'))"


def canvas(browser, name):
    """The pixels of a canvas."""
    data = browser.run("return document.getElementById(arguments[0]).toDataURL('image/png')", name)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB"))


def test_renders_what_python_renders(site, models, photo):
    model, picture = runtime.load(models / "render.onnx", device="cpu"), read_photo(photo)
    with chromium() as browser:
        browser.open(f"{site.address}/index.html?photo=photo.png&backend=wasm")
        browser.wait(f"document.getElementById('status').textContent.includes('rendered in') && {IDLE}")
        assert "WebAssembly, 1 thread" in browser.run(STATUS)
        assert np.array_equal(canvas(browser, "before"), picture.pixels)

        # As opened: the learned focus and the slider's first value.
        expected = model.render(picture, blur=2)
        assert psnr(canvas(browser, "after"), expected.photo.pixels) > 45
        np.testing.assert_allclose(canvas(browser, "depth")[:, :, 0] / 255, expected.disparity, atol=0.004)

        # Another blur.
        browser.run(MOVE, "blur", 7)
        browser.wait(IDLE)
        auto = canvas(browser, "after")
        assert psnr(auto, model.render(picture, blur=7).photo.pixels) > 45
        assert psnr(auto, picture.pixels) < 35

        # A real click to focus. The pixel is whole, so the point is known to half of one.
        browser.click("#before", 0.3, 0.7)
        browser.wait(IDLE)
        x, y = browser.run(
            "const mark = document.getElementById('reticle').style;"
            "return [parseFloat(mark.left) / 100, parseFloat(mark.top) / 100]"
        )
        assert (x, y) == (pytest.approx(0.3, abs=0.01), pytest.approx(0.7, abs=0.01))
        clicked = canvas(browser, "after")
        assert psnr(clicked, model.render(picture, blur=7, focus=(x, y)).photo.pixels) > 45
        assert not np.array_equal(clicked, auto)

        # Auto focus again, and the divider shows the photo on its left.
        browser.run("document.getElementById('auto').click()")
        browser.wait(IDLE)
        assert np.array_equal(canvas(browser, "after"), auto)
        browser.run(MOVE, "compare", 50)
        assert browser.run("return getComputedStyle(document.getElementById('after')).clipPath").endswith("50%)")
        assert [entry for entry in browser.logs() if "photo.png" in entry or "worker.js" in entry] == []


def test_a_large_turned_photo_is_drafted_then_saved_at_full_size(site, models, photo):
    """A JPEG of 1300 x 40 px on its side: upright on the page, smaller there, whole in the file that is saved."""
    strip = Image.open(photo).crop((0, 40, 203, 46)).resize((1300, 40), Image.Resampling.BICUBIC)
    turned = strip.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = site.folder
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    with chromium() as browser:
        browser.open(f"{site.address}/index.html?photo=turned.jpg&backend=wasm")
        browser.wait(f"document.getElementById('status').textContent.includes('rendered in') && {IDLE}")
        assert canvas(browser, "before").shape == canvas(browser, "after").shape == (37, 1200, 3)
        assert psnr(canvas(browser, "before"), strip.resize((1200, 37), Image.Resampling.LANCZOS)) > 25
        browser.run(
            "window.sizes = []; const render = Worker.prototype.postMessage;"
            "Worker.prototype.postMessage = function (message) {"
            "  if (message.task === 'render') window.sizes.push(message.image.width);"
            "  return render.call(this, message); }"
        )
        browser.run(MOVE, "blur", 5)
        browser.wait(IDLE)
        assert browser.run("return window.sizes") == [480, 1200]
        browser.run(
            "const make = URL.createObjectURL; URL.createObjectURL = (blob) => {"
            "  const reader = new FileReader(); reader.onload = () => (window.saved = reader.result);"
            "  reader.readAsDataURL(blob); return make(blob); }"
        )
        browser.run("document.getElementById('save').click()")
        browser.wait("window.saved")
        saved = Image.open(io.BytesIO(base64.b64decode(browser.run("return window.saved").split(",")[1])))
        assert (saved.format, saved.size) == ("JPEG", (1300, 40))
        expected = runtime.load(models / "render.onnx", device="cpu").render(read_photo(folder / "turned.jpg"), blur=5)
        assert psnr(saved, expected.photo.pixels) > 30


def test_no_more_is_saved_than_webassembly_can_address(site):
    """A photo of 6.4 megapixels: what is sent to be rendered has 6. Nothing is rendered at that size here."""
    Image.new("RGB", (4000, 1600), "teal").save(site.folder / "wide.png")
    with chromium() as browser:
        browser.open(f"{site.address}/index.html?photo=wide.png&backend=wasm")
        browser.wait("!document.getElementById('save').disabled")
        browser.run(
            "const send = Worker.prototype.postMessage;"
            "Worker.prototype.postMessage = function (message) {"
            "  if (message.task !== 'depth') return send.call(this, message);"
            "  window.size = [message.image.width, message.image.height]; }"
        )
        browser.run("document.getElementById('save').click()")
        browser.wait("window.size")
        width, height = browser.run("return window.size")
        assert 5.98e6 < width * height <= 6.01e6
        assert width / height == pytest.approx(2.5, abs=0.002)


def test_what_is_missing_is_said(site):
    with chromium() as browser:
        browser.open(f"{site.address}/index.html?photo=none.png&backend=wasm")
        browser.wait("document.getElementById('status').className === 'error'")
        assert "none.png: 404" in browser.run(STATUS)
        browser.open(f"{site.address}/index.html?photo=http://127.0.0.1:9/none.png&backend=wasm")  # nobody answers
        browser.wait("document.getElementById('status').className === 'error'")
