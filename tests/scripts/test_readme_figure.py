"""The picture of README.md is one of a page, taken by a browser."""

import sys
from pathlib import Path

import pytest
from PIL import Image

import readme_figure
from readme_figure import BROWSERS, PICTURE, WIDTH, main

FAKE = f"""#!{sys.executable}
import sys
from PIL import Image
from pathlib import Path
options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
assert sys.argv[-1].startswith("file:///") and Path(sys.argv[-1][7:]).read_text() == "a page"
width, height = map(int, options["window-size"].split(","))
Image.new("RGB", (width, height + 7), "teal").save(options["screenshot"])
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page, and a folder without any program as the only one on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "summary.html").write_text("a page")
    return tmp_path / "summary.html"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["readme_figure.py", *map(str, arguments)])
    main()


def test_the_browser_takes_the_top_of_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = page.parent / "bin" / BROWSERS[-1]
    browser.write_text(FAKE)
    browser.chmod(0o755)
    call(monkeypatch, page, "--output", page.parent / "docs" / "picture.png", "--height", 300)
    picture = Image.open(page.parent / "docs" / "picture.png")
    assert (picture.size, picture.mode) == ((WIDTH, 300), "P")
    assert picture.convert("RGB").getpixel((5, 5)) == (0, 128, 128)


def test_what_is_missing_is_told(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="none of chromium, chromium-browser, google-chrome is installed"):
        call(monkeypatch, page)
    with pytest.raises(SystemExit, match=r"nowhere\.html does not exist: name the summary\.html"):
        call(monkeypatch, "nowhere.html")
    (page.parent / "bin" / "chromium").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no display')")
    (page.parent / "bin" / "chromium").chmod(0o755)
    with pytest.raises(SystemExit, match=r"took no picture of .*: no display"):
        call(monkeypatch, page)


def test_the_picture_of_the_readme_is_small() -> None:
    assert PICTURE.stat().st_size < 200_000
    assert f"docs/images/{PICTURE.name}" in (readme_figure.PICTURE.parents[2] / "README.md").read_text()
