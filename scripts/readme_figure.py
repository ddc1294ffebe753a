"""Make the picture in README.md from a page: `python scripts/readme_figure.py outputs/…/summary.html`.

A headless Chromium or Chrome takes it. The current picture is of the page of this sweep:

    python train.py -m sweep=baselines data=imdb budget_minutes=30 trainer.threads=1
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image  # a dependency of matplotlib

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "summary.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1100, 1180  # px of the page, from its top
NUM_COLORS = 64
TIMEOUT_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description="Take a picture of the top of a page.")
    parser.add_argument("page", type=Path, help="summary.html of a sweep, or report.html of a run")
    parser.add_argument("--output", type=Path, default=PICTURE, help="PNG file (default: docs/images/summary.png)")
    parser.add_argument("--height", type=int, default=HEIGHT, help=f"pixels from the top (default: {HEIGHT})")
    arguments = parser.parse_args()
    if not arguments.page.is_file():
        sys.exit(
            f"error: {arguments.page} does not exist: name the summary.html of a sweep or the report.html of a run"
        )
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: a picture needs a browser, and none of {', '.join(BROWSERS)} is installed")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(picture_of(arguments.page, browser, arguments.height))
    print(arguments.output)


def picture_of(page: Path, browser: str, height: int) -> bytes:
    """A PNG of the top of a page, with NUM_COLORS colours. Exits if the browser takes none."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "page.png"
        options = ["--headless", "--hide-scrollbars", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses root otherwise
        size = f"--window-size={WIDTH},{height}"
        command = [browser, *options, size, f"--screenshot={taken}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode or not taken.exists():
            sys.exit(f"error: {browser} took no picture of {page}: {done.stderr.strip() or done.returncode}")
        image = Image.open(taken).convert("RGB").crop((0, 0, WIDTH, height))
    buffer = BytesIO()
    image.quantize(NUM_COLORS).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
