"""The picture of README.md is made of a run's figures."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from helpers.project import Command
from readme_figure import HEIGHT_PX, PICTURE, side_by_side


def test_images_stand_side_by_side_at_the_same_height(tmp_path: Path) -> None:
    Image.new("RGB", (HEIGHT_PX * 2, HEIGHT_PX), "red").save(tmp_path / "left.png")
    Image.new("RGB", (HEIGHT_PX // 2, HEIGHT_PX // 2), "blue").save(tmp_path / "right.png")
    picture = Image.open(BytesIO(side_by_side([tmp_path / "left.png", tmp_path / "right.png"]))).convert("RGB")
    assert picture.size == (HEIGHT_PX * 3, HEIGHT_PX)
    assert picture.getpixel((HEIGHT_PX, 10)) == (255, 0, 0)
    assert picture.getpixel((HEIGHT_PX * 2 + 20, 10)) == (0, 0, 255)
    assert PICTURE.stat().st_size < 100_000


def test_a_directory_without_figures_is_an_error(command_here: Command, tmp_path: Path) -> None:
    done = command_here("scripts/readme_figure.py", str(tmp_path), "--output", str(tmp_path / "report.png"))
    assert done.returncode != 0
    assert "has no learning_curves.png and no confusions.png" in done.stderr
    assert not (tmp_path / "report.png").exists()
