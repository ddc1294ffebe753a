"""Where the time of a run goes."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from torch.profiler import ProfilerActivity, profile, schedule

NUM_STEPS = 20  # of training, whose operators are told apart; those before them are warm-up
NUM_WARMUP_STEPS = 3
NUM_OPERATORS = 12  # that the table shows


class PhaseProfiler(SimpleProfiler):
    """Lightning's durations, as one table at the end of the run instead of one after each stage."""

    def summary(self) -> str:
        return ""

    def seconds(self, *endings: str) -> float:
        """Time spent in all actions whose names end so."""
        return sum(sum(durations) for name, durations in self.recorded_durations.items() if name.endswith(endings))

    def phases(self, results: dict[str, Any]) -> dict[str, float]:
        """Seconds of each phase of a run, which add up to its whole time. results: what its metrics.json holds."""
        forward, backward = self.seconds(".training_step"), self.seconds(".backward")
        fitting = {
            "reading batches": self.seconds(".train_dataloader_next"),
            "forward and loss": forward,
            "backward": backward,
            "optimiser": self.seconds(".optimizer_step") - forward - backward,  # its step calls the other two
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
    """What torch computed in some steps of training, operator by operator."""

    def __init__(self) -> None:
        self.times: dict[str, tuple[float, int]] = {}  # seconds in the operator itself, calls; of NUM_STEPS or fewer
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
    """What both found, as text. results: what metrics.json holds."""
    phases = trainer.profiler  # type: ignore[attr-defined]
    (operators,) = [callback for callback in trainer.callbacks if isinstance(callback, OperatorProfile)]  # type: ignore[attr-defined]
    assert isinstance(phases, PhaseProfiler)
    total = results["time/total_s"]
    lines = [f"{'where the time went':<32}{'seconds':>10}{'share':>8}"]
    for name, seconds in phases.phases(results).items():
        lines.append(f"{name:<32}{seconds:>10.2f}{seconds / total:>8.1%}")
    lines.append(f"{'total':<32}{total:>10.2f}{1:>8.1%}")
    whole = sum(seconds for seconds, _ in operators.times.values())
    lines += ["", f"{'operators of some training steps':<44}{'seconds':>10}{'share':>8}{'calls':>8}"]
    for name, (seconds, calls) in sorted(operators.times.items(), key=lambda item: -item[1][0])[:NUM_OPERATORS]:
        lines.append(f"{name[:42]:<44}{seconds:>10.3f}{seconds / whole:>8.1%}{calls:>8,}")
    return "\n".join(lines)
