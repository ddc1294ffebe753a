"""Settings that were given on the command line and make no difference beside the others: told, never refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from newsreel.config.schema import Settings
from newsreel.corpora.corpus import Task

LEARNING = "unlabeled algorithm window negative sample min_count epochs seed min_n max_n bucket"  # of given vectors


@dataclass(frozen=True)
class Idle:
    """Settings that change nothing for some configs and tasks, and why."""

    keys: tuple[str, ...]
    when: Callable[[Settings, Task], bool]
    reason: str


IDLE = (
    Idle(
        ("evaluation.thresholds", "evaluation.shrinkage"),
        lambda config, task: task != "multilabel",
        "documents have one label, the most probable",
    ),
    Idle(
        ("evaluation.shrinkage",),
        lambda config, task: config["evaluation"]["thresholds"] != "per_label",
        "only evaluation.thresholds=per_label has thresholds to draw towards a global one",
    ),
    Idle(
        ("training.one_vs_rest",),
        lambda config, task: config["training"]["one_vs_rest"] and task != "multiclass",
        "every label here is a decision of its own already",
    ),
    Idle(
        ("trainer.projector_words",),
        lambda config, task: not config["logger"]["_target_"].endswith(".TensorBoard"),
        "only logger=tensorboard has a projector",
    ),
    Idle(
        ("trainer.projector_words",),
        lambda config, task: config["embedding"]["_target_"].endswith(".OneHot"),
        "one-hot words have no vectors to show",
    ),
    Idle(
        ("model.sublinear_tf",),
        lambda config, task: config["model"]["weighting"] in ("binary", "nb"),
        "model.weighting=binary and nb count nothing",
    ),
    Idle(
        tuple(f"embedding.{key}" for key in LEARNING.split()),
        lambda config, task: config["embedding"].get("path") is not None,
        "the vectors are those of embedding.path, and nothing is learned",
    ),
    Idle(
        ("batches.truncation",),
        lambda config, task: config["batches"]["max_tokens"] is None,
        "batches.max_tokens=null cuts no document",
    ),
)


def idle_settings(overrides: Sequence[str], config: Settings, task: Task) -> list[str]:
    """What was given and makes no difference, in sentences. config: the checked one. task: of the documents."""
    found: dict[str, list[str]] = {}  # by reason
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        for idle in IDLE:
            if key in idle.keys and idle.when(config, task):
                found.setdefault(idle.reason, []).append(override)
                break
    return [f"{' '.join(given)} changes nothing: {reason}" for reason, given in found.items()]
