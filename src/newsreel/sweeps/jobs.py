"""Settings of a sweep and of its jobs, as plain values."""

from collections.abc import Sequence
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf


def own_settings(config: DictConfig) -> dict[str, Any]:
    """The resolved config without the section `hydra`."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    settings: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    return settings


def settings_of_job(hydra_context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Those of a job with these overrides. config: of the sweep."""
    return own_settings(hydra_context.config_loader.load_sweep_config(config, list(overrides)))


def sweeper_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a sweeper as plain values."""
    return {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in settings.items()
    }
