"""The picture of examples/web in docs/deploy.md, made in headless Chromium.

argan export --format onnx --output examples/web/models && (cd examples/web && npm install)
python tests/examples/screenshot.py docs/web.jpg
"""

import functools
import http.server
import io
import sys
import threading
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from browser import chromium

EXAMPLES = Path(__file__).parents[2] / "examples"
SET = "const it = document.getElementById(arguments[0]); it.value = arguments[1]; it.dispatchEvent(new Event('input'))"
DONE = "document.getElementById('status').textContent.includes('rendered in') && document.getElementById('busy').hidden"


def main(path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=EXAMPLES)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with chromium(1280, 1000) as browser:
        browser.open(f"http://127.0.0.1:{server.server_port}/web/")
        browser.run(SET, "blur", 4)
        browser.run("document.getElementById('example').click()")
        browser.wait(DONE, 600)
        browser.run(SET, "compare", 45)
        browser.click("#before", 0.29, 0.36)
        time.sleep(0.5)
        browser.wait(DONE, 600)
        below = browser.run("return document.getElementById('status').getBoundingClientRect().top")
        picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    picture.crop((0, 0, picture.width, int(below))).save(path, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
