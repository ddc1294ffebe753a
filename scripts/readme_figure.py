"""Make the picture in README.md from the figures of a run: `python scripts/readme_figure.py outputs/…/<time>`.

The current picture is of this run:

    python train.py model=cnn data=synthetic data.num_labels=6 data.num_documents=3000 data.difficulty=0.4 \
        data.mean_length=40 training.learning_rate=0.003 training.max_epochs=8
"""

import argparse
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image  # a dependency of matplotlib

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "report.png"
FIGURES = ("learning_curves.png", "confusions.png")  # from left to right
HEIGHT_PX = 400
NUM_COLORS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description="Put figures of a run side by side.")
    parser.add_argument("run", type=Path, help="run directory, with figures/")
    parser.add_argument("--output", type=Path, default=PICTURE, help="PNG file (default: docs/images/report.png)")
    arguments = parser.parse_args()
    missing = [name for name in FIGURES if not (arguments.run / "figures" / name).is_file()]
    if missing:
        sys.exit(f"error: {arguments.run}/figures has no {' and no '.join(missing)}; give the directory of a run")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(side_by_side([arguments.run / "figures" / name for name in FIGURES]))
    print(arguments.output)


def side_by_side(paths: list[Path]) -> bytes:
    """The images side by side in one PNG with NUM_COLORS colours, scaled to the same height."""
    images = [Image.open(path).convert("RGB") for path in paths]
    images = [image.resize((round(image.width * HEIGHT_PX / image.height), HEIGHT_PX)) for image in images]
    picture = Image.new("RGB", (sum(image.width for image in images), HEIGHT_PX), "white")
    left = 0
    for image in images:
        picture.paste(image, (left, 0))
        left += image.width
    buffer = BytesIO()
    picture.quantize(NUM_COLORS).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
