"""What TensorBoard shows of a run."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """A tag's values by step, as TensorBoard shows them. Fails if a step has two."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    shown = events.Reload().Scalars(tag)
    assert len({event.step for event in shown}) == len(shown)
    return {event.step: event.value for event in shown}
