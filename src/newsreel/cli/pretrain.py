"""`python pretrain.py`: starts a new language model or resumes one."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from newsreel.cli.early import check_documents
from newsreel.cli.train import require_free_run_dir, typed_run_dir
from newsreel.core.dist import limit_threads
from newsreel.core.paths import user_path
from newsreel.runs.run_dir import PRETRAIN, config_choices
from newsreel.training.interrupts import resumable
from newsreel.training.launch import lock_on_rank_zero
from newsreel.training.resume import resume


def pretrain(config: DictConfig, started: float) -> dict[str, Any]:
    """Train a new language model, or resume the one that `resume` names; returns the content of metrics.json.

    started: `time.perf_counter()` when the command started. Raises UserError.
    """
    hydra = HydraConfig.get()
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    overrides = list(hydra.overrides.task)
    if settings["resume"] is not None:
        return resume(user_path(settings["resume"], "resume"), settings, overrides, started, PRETRAIN)
    limit_threads(settings)
    check_documents(settings)

    from newsreel.config.pretraining import read_pretraining
    from newsreel.training.pretrain import pretrain_run
    from newsreel.training.spec import RunSpec

    run_dir = Path(hydra.runtime.output_dir)
    spec = RunSpec(
        read_pretraining(settings),
        run_dir,
        config_choices(hydra.runtime.choices),
        overrides,
        started,
        hydra_overrides=typed_run_dir(hydra),
        script=PRETRAIN,
    )
    with resumable(run_dir), lock_on_rank_zero(run_dir):
        require_free_run_dir(run_dir)
        return pretrain_run(spec)
