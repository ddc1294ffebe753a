"""Output in encodings that lack characters, and home directories that are unknown."""

import io
import os
import sys
from pathlib import Path

import pytest

from newsreel.core.paths import user_path
from newsreel.core.terminal import print_every_character


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "-- ... 1+-2 3x4 caf\\xe9 \\u65e5"),
        ("cp1252", "-- … 1±2 3×4 café \\u65e5"),
        ("utf-8", "── … 1±2 3×4 café 日"),
    ],
)
def test_characters_that_an_encoding_lacks_become_plain_ones(
    encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, content in printed.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(content, encoding=encoding, write_through=True))
    print_every_character()
    for name, content in printed.items():
        print("── … 1±2 3×4 café 日", file=getattr(sys, name))
        assert content.getvalue().decode(encoding).rstrip() == expected


def test_a_stream_that_is_no_text_stream_of_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    print_every_character()


def test_a_stream_over_a_file_that_became_a_pipe_still_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sender = os.pipe()
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        os.dup2(sender, stream.fileno())
        monkeypatch.setattr(sys, "stdout", stream)
        print_every_character()
        print("a result", flush=True)
    assert os.read(receiver, 100) == b"a result\n"
    os.close(receiver)
    os.close(sender)


def test_a_path_may_begin_with_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_path("~/cache", "paths.cache_dir") == Path("/somewhere/cache")
    assert user_path("here/~", "output") == Path("here/~")
