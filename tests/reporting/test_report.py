"""Reports of runs whose label names are made to do harm."""

import re
from pathlib import Path

import pytest

from helpers.tiny_runs import train_tiny

LINK, IMAGE, SCRIPT, CODE = "[pay](https://x.y)", "![](https://x.y/a.png)", "<script>x</script>", "`a` **b** | c"


def test_label_names_are_text_in_the_report_whatever_they_look_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [LINK, IMAGE, SCRIPT, CODE]
    rows = [f'{{"text": "word{number % 4} other{number}", "label": "{labels[number % 4]}"}}' for number in range(80)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    train_tiny(tmp_path, "data=files", f"data.train={tmp_path / 'train.jsonl'}", "model=bow")
    report = (tmp_path / "run" / "report.md").read_text()
    prose = re.sub(r"(?m)^    .*$", "", report)
    for label in labels:
        assert label not in prose
    assert "&#91;pay&#93;(https://x.y)" in prose
    assert "<script" not in prose
