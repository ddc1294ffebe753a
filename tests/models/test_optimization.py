"""Learning-rate schedules by hand-made expectation."""

import pytest

from newsreel.models.optimization import TrainingSettings, schedule_factor


def settings(schedule: str, warmup_fraction: float) -> TrainingSettings:
    return TrainingSettings(
        optimizer="adam",
        learning_rate=1.0,
        weight_decay=0.0,
        initial_accumulator=0.0,
        class_balance=0.0,
        focal_gamma=0.0,
        label_smoothing=0.0,
        one_vs_rest=False,
        schedule=schedule,  # type: ignore[arg-type]
        warmup_fraction=warmup_fraction,
        gradient_clip=None,
        max_epochs=1,
        patience=None,
        checkpoint="best",
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, 0.853553, 0.5, 0.146447, 0]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    factors = [schedule_factor(settings(schedule, 0.0), step, 4) for step in range(5)]
    assert factors == pytest.approx(expected, abs=1e-6)


def test_warm_up_rises_to_the_full_rate_and_never_is_zero() -> None:
    factors = [schedule_factor(settings("constant", 0.4), step, 10) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
