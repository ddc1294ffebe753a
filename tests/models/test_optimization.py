"""Learning-rate schedules and the steps of epochs by hand-made expectation."""

from types import SimpleNamespace
from typing import Any

import pytest

from newsreel.models.optimization import least_steps, schedule_factor


@pytest.mark.parametrize(
    ("schedule", "warmup_fraction", "num_steps", "expected"),
    [
        ("constant", 0.0, 4, [1, 1, 1, 1, 1]),
        ("linear", 0.0, 4, [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", 0.0, 4, [1, 0.853553, 0.5, 0.146447, 0]),
        ("constant", 0.4, 10, [0.2, 0.4, 0.6, 0.8, 1, 1]),  # never zero
    ],
)
def test_schedules(schedule: str, warmup_fraction: float, num_steps: int, expected: list[float]) -> None:
    settings: Any = SimpleNamespace(schedule=schedule, warmup_fraction=warmup_fraction)
    factors = [schedule_factor(settings, step, num_steps) for step in range(len(expected))]
    assert factors == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("num_labels", "expected"), [(2, 100), (10, 100), (11, 110), (90, 900)])
def test_the_least_steps_grow_with_the_labels_above_ten(num_labels: int, expected: float) -> None:
    assert least_steps(100, True, num_labels) == pytest.approx(expected)
    assert least_steps(100, False, num_labels) == 100
