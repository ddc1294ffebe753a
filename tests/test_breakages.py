"""The table of breakages says what the source says."""

from breakages import BREAKAGES, PROJECT, Breakage


def test_the_text_that_a_breakage_changes_is_in_its_file_once() -> None:
    def is_there(breakage: Breakage) -> bool:
        text = (PROJECT / "src" / "newsreel" / breakage.file).read_text(encoding="utf-8")
        return text.count(breakage.old) == 1 and breakage.old != breakage.new

    assert [breakage.name for breakage in BREAKAGES if not is_there(breakage)] == []
