"""Profiles of a run: durations of its phases, and of operators in training steps."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from torch.profiler import ProfilerActivity, profile, schedule

NUM_STEPS = 20  # training steps whose operators are profiled
NUM_WARMUP_STEPS = 3  # before them
NUM_OPERATORS = 12  # in the table


class PhaseProfiler(SimpleProfiler):
    """Lightning's SimpleProfiler, with one table at the end of the run instead of one after each stage."""

    def summary(self) -> str:
        return ""

    def seconds(self, *endings: str) -> float:
        """Total time, in seconds, of all actions whose names end with any of `endings`."""
        return sum(sum(durations) for name, durations in self.recorded_durations.items() if name.endswith(endings))

    def phases(self, results: dict[str, Any]) -> dict[str, float]:
        """Duration of each phase in seconds; they sum to the total time. results: the content of metrics.json."""
        forward, backward = self.seconds(".training_step"), self.seconds(".backward")
        fitting = {
            "reading batches": self.seconds(".train_dataloader_next"),
            "forward and loss": forward,
            "backward": backward,
            "optimizer": max(
                0.0, self.seconds(".optimizer_step") - forward - backward
            ),  # without those, which it includes
            "validation": self.seconds("].val_next", ".validation_step", ".on_validation_epoch_end"),
            "checkpoints": self.seconds("save_checkpoint"),
        }
        return {
            "before training": results["time/prepare_s"],
            **fitting,
            "rest of training": results["time/fit_s"] - sum(fitting.values()),
            "test": results["time/test_s"],
            "report": results["time/total_s"] - sum(results[f"time/{phase}_s"] for phase in ("prepare", "fit", "test")),
        }


class OperatorProfile(Callback):
    """Profiles the torch operators of a few training steps."""

    def __init__(self) -> None:
        self.times: dict[str, tuple[float, int]] = {}  # (self time in s, calls) over up to NUM_STEPS steps
        self._profile: profile | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        activities = [ProfilerActivity.CPU]
        if trainer.strategy.root_device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        steps = schedule(wait=0, warmup=NUM_WARMUP_STEPS, active=NUM_STEPS, repeat=1)
        self._profile = profile(activities=activities, schedule=steps, on_trace_ready=self._keep)
        self._profile.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._profile is not None:
            self._profile.step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._profile is not None:
            self._profile.stop()

    def _keep(self, profile: profile) -> None:
        on_device = ProfilerActivity.CUDA in profile.activities
        self.times = {
            event.key: (1e-6 * (event.self_device_time_total if on_device else event.self_cpu_time_total), event.count)
            for event in profile.key_averages()
            if not event.key.startswith("ProfilerStep")
        }


def time_table(trainer: Trainer, results: dict[str, Any]) -> str:
    """The tables of both profilers. results: the content of metrics.json."""
    phases = trainer.profiler  # type: ignore[attr-defined]
    (operators,) = [callback for callback in trainer.callbacks if isinstance(callback, OperatorProfile)]  # type: ignore[attr-defined]
    assert isinstance(phases, PhaseProfiler)
    total = results["time/total_s"]
    lines = [f"{'where the time went':<32}{'seconds':>10}{'share':>8}"]
    for name, seconds in phases.phases(results).items():
        lines.append(f"{name:<32}{seconds:>10.2f}{seconds / total:>8.1%}")
    lines.append(f"{'total':<32}{total:>10.2f}{1:>8.1%}")
    operators_total = sum(seconds for seconds, _ in operators.times.values())
    lines += ["", f"{'operators of some training steps':<44}{'seconds':>10}{'share':>8}{'calls':>8}"]
    for name, (seconds, calls) in sorted(operators.times.items(), key=lambda item: -item[1][0])[:NUM_OPERATORS]:
        lines.append(f"{name[:42]:<44}{seconds:>10.3f}{seconds / operators_total:>8.1%}{calls:>8,}")
    return "\n".join(lines)
