"""Every target of the fuzzer for a moment; `make fuzz SECONDS=…` gives them more time."""

import sys

import pytest


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_damaged_files_give_a_result_or_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fuzz.run import main  # builds files of every kind

    monkeypatch.setattr(sys, "argv", ["fuzz", "--seconds", "1"])
    status = main()
    assert status == 0, capsys.readouterr().out
