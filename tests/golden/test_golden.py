"""Commands do what they did when `golden.py record` was run last: see there."""

import json

import pytest

import golden


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in golden.SMALL else pytest.mark.slow) for name in golden.SCENARIOS]
)
def test_a_scenario_gives_what_was_recorded(name: str) -> None:
    found = golden.differences(golden.read_record(name), golden.observe(name))
    if found and golden.read_record(golden.MACHINE) != golden.machine():
        pytest.skip(f"recorded on another machine, where last digits differ: {'; '.join(found[:4])}")
    assert not found, "\n".join(found[:60])


def test_differences_are_told_value_by_value() -> None:
    recorded = {"step": {"exit": 0, "metrics": {"loss": 0.5, "f1": 1.0}, "messages": {"stderr": ["no such key"]}}}
    seen = {"step": {"exit": 0, "metrics": {"loss": 0.25, "f1": 1.0}, "messages": {"stderr": ["no key"]}}}
    assert golden.differences(recorded, recorded) == []
    assert golden.differences(recorded, seen)[:2] == ["- step › metrics › loss: 0.5", "+ step › metrics › loss: 0.25"]
    reworded = golden.with_messages_of(recorded, seen)
    assert golden.differences(golden.without_messages(reworded), golden.without_messages(recorded)) == []
    assert golden.differences(reworded, seen) == golden.differences(recorded, seen)[:2]


def test_a_record_is_what_its_json_says() -> None:
    record = {"step": {"metrics": {f"figure{n}": n / 3 for n in range(40)}, "rows": [[1, "a"], []], "é": None}}
    assert json.loads(golden.as_text(record)) == record
    assert max(map(len, golden.as_text(record).splitlines())) < 125
