"""Commands do what they did when `golden.py record` was run last: see there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import golden
from helpers.in_process import call


def in_process(arguments: list[str], marks: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """`golden.run` without a start of Python and torch."""
    ended = call(folder, golden.environment_of(folder), *arguments)
    return ended.returncode, ended.stdout, ended.stderr


def assert_nothing_differs(name: str, seen: dict[str, Any]) -> None:
    is_recorded_here = golden.read_record(golden.MACHINE) == golden.machine()
    found = golden.differences(golden.read_record(name), seen, last_digits=is_recorded_here)
    assert not found, "\n".join(found[:60])


@pytest.mark.parametrize("name", golden.SMALL)
def test_a_small_scenario_gives_what_was_recorded(name: str) -> None:
    assert_nothing_differs(name, golden.observe(name, in_process))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", golden.SCENARIOS)
def test_a_scenario_gives_what_was_recorded(name: str) -> None:
    assert_nothing_differs(name, golden.observe(name))


def test_differences_are_told_value_by_value() -> None:
    recorded = {"step": {"exit": 0, "metrics": {"loss": 0.5, "f1": 1.0}, "messages": {"stderr": ["no such key"]}}}
    seen = {"step": {"exit": 0, "metrics": {"loss": 0.25, "f1": 1.0}, "messages": {"stderr": ["no key"]}}}
    assert golden.differences(recorded, recorded) == []
    assert (
        golden.differences(
            recorded,
            recorded | {"step": recorded["step"] | {"metrics": {"loss": 0.50001, "f1": 1.0}}},
            last_digits=False,
        )
        == []
    )
    assert golden.differences(recorded, seen, last_digits=False) == golden.differences(recorded, seen)
    assert golden.differences(recorded, seen)[:2] == ["- step › metrics › loss: 0.5", "+ step › metrics › loss: 0.25"]
    reworded = golden.with_messages_of(recorded, seen)
    assert golden.differences(golden.without_messages(reworded), golden.without_messages(recorded)) == []
    assert golden.differences(reworded, seen) == golden.differences(recorded, seen)[:2]


def test_a_record_is_what_its_json_says() -> None:
    record = {"step": {"metrics": {f"figure{n}": n / 3 for n in range(40)}, "rows": [[1, "a"], []], "é": None}}
    assert json.loads(golden.as_text(record)) == record
    assert max(map(len, golden.as_text(record).splitlines())) < 125
