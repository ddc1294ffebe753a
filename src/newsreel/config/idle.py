"""Notes on settings from the command line that have no effect in combination with the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from newsreel.config.schema import unregularized
from newsreel.config.sections import Settings
from newsreel.corpora.corpus import Corpus

STEPS = (
    "optimizer learning_rate weight_decay initial_accumulator schedule warmup_fraction gradient_clip layer_decay "
    "unfreeze_epochs"
)
LEARNING = "unlabeled algorithm window negative sample min_count epochs seed min_n max_n bucket"  # of given vectors


@dataclass(frozen=True)
class Idle:
    """Settings that have no effect for some configs and corpora, and the reason."""

    keys: tuple[str, ...]
    when: Callable[[Settings, Corpus], bool]
    reason: str


def divides_training(config: Settings) -> bool:
    """Whether documents are held out even of a corpus with all splits: from a language model's text, or as folds."""
    return "num_samples" in config["training"] or config["evaluation"]["folds"] is not None


def reads_unlabeled(config: Settings) -> bool:
    """Whether anything reads unlabelled documents."""
    data, training, embedding = config["data"], config["training"], config["embedding"]
    return bool(
        data.get("pseudo_labels") is not None
        or training.get("vat")
        or training.get("entropy")
        or config["tokenizer"].get("unlabeled")
        or (embedding.get("unlabeled") and embedding.get("path") is None)
        or "num_samples" in training  # a language model's
    )


IDLE = (
    Idle(
        ("data.unlabeled",),
        lambda config, corpus: not reads_unlabeled(config),
        "without data.pseudo_labels, training.vat, training.entropy, tokenizer.unlabeled and embedding.unlabeled, "
        "nothing reads unlabelled documents",
    ),
    Idle(
        ("data.validation_fraction", "data.test_fraction", "data.split_seed", "data.split_method"),
        lambda config, corpus: corpus.tables.keys() >= {"validation", "test"} and not divides_training(config),
        "the corpus has validation and test documents of its own",
    ),
    Idle(
        ("data.validation_fraction",),
        lambda config, corpus: "validation" in corpus.tables,
        "the corpus has validation documents of its own",
    ),
    Idle(
        ("data.test_fraction",),
        lambda config, corpus: "test" in corpus.tables,
        "the corpus has test documents of its own",
    ),
    Idle(
        (
            *(f"training.{key}" for key in STEPS.split()),
            "training.min_steps_per_epoch",
            "training.scale_min_steps",
            "trainer.accumulate_grad_batches",
        ),
        lambda config, corpus: config["training"].get("solver") == "newton",
        "training.solver=newton computes the optimum for each L2 penalty of training.l2_path, without gradient steps "
        "(training.solver=minibatch takes them)",
    ),
    Idle(
        ("training.l2_path",),
        lambda config, corpus: config["training"].get("solver") != "newton",
        "training.solver=minibatch has training.weight_decay instead",
    ),
    Idle(
        ("evaluation.thresholds", "evaluation.shrinkage", "evaluation.fbr", "evaluation.folds"),
        lambda config, corpus: corpus.task != "multilabel",
        "each document gets one label, the most probable",
    ),
    Idle(
        ("evaluation.shrinkage",),
        lambda config, corpus: config["evaluation"]["thresholds"] != "per_label",
        "only evaluation.thresholds=per_label shrinks thresholds towards a global one",
    ),
    Idle(
        ("evaluation.fbr",),
        lambda config, corpus: config["evaluation"]["thresholds"] != "scut_fbr",
        "only evaluation.thresholds=scut_fbr raises thresholds where F1 is low",
    ),
    Idle(
        ("evaluation.folds",),
        lambda config, corpus: config["evaluation"]["thresholds"] == "fixed",
        "evaluation.thresholds=fixed fits nothing",
    ),
    Idle(
        ("training.one_vs_rest",),
        lambda config, corpus: config["training"]["one_vs_rest"] and corpus.task != "multiclass",
        "in this task, every label is a separate decision already",
    ),
    Idle(
        ("trainer.projector_words",),
        lambda config, corpus: not config["logger"]["_target_"].endswith(".TensorBoard"),
        "only logger=tensorboard has a projector",
    ),
    Idle(
        ("trainer.projector_words",),
        lambda config, corpus: config["embedding"]["_target_"].endswith(".OneHot"),
        "one-hot words have no vectors to show",
    ),
    Idle(
        ("model.pooling",),
        lambda config, corpus: "num_samples" in config["training"],
        "a language model does not pool the states of a text",
    ),
    Idle(
        ("model.sublinear_tf",),
        lambda config, corpus: config["model"]["weighting"] in ("binary", "nb"),
        "model.weighting=binary and nb do not use counts",
    ),
    Idle(
        tuple(f"embedding.{key}" for key in LEARNING.split()),
        lambda config, corpus: config["embedding"].get("path") is not None,
        "the vectors are read from embedding.path instead of learned",
    ),
    Idle(
        ("embedding.ratio_scale",),
        lambda config, corpus: config["embedding"]["adapt_below"] == 0,
        "embedding.adapt_below=0 starts no row with ratios",
    ),
    Idle(
        ("data.pseudo_targets", "data.pseudo_weight"),
        lambda config, corpus: config["data"].get("pseudo_labels") is None,
        "data.pseudo_labels=null names no run that labels documents",
    ),
    Idle(
        ("tokenizer.max_size", "tokenizer.min_document_count"),
        lambda config, corpus: config["tokenizer"].get("num_buckets") is not None,
        "tokenizer.num_buckets hashes all n-grams, so there is no vocabulary to limit",
    ),
    Idle(
        ("training.perturbation_norm",),
        lambda config, corpus: not (config["training"].get("adversarial") or config["training"].get("vat")),
        "only training.adversarial and training.vat perturb documents",
    ),
    Idle(
        ("batches.unlabeled_batch_size",),
        lambda config, corpus: not (config["training"].get("vat") or config["training"].get("entropy")),
        "only training.vat and training.entropy read unlabelled documents",
    ),
    Idle(
        ("batches.truncation",),
        lambda config, corpus: config["batches"]["max_tokens"] is None,
        "batches.max_tokens=null truncates no document",
    ),
)


def is_switched_off(key: str, value: str, config: Settings) -> bool:
    """Whether regularize=false has replaced the value of a setting."""
    section, _, name = key.partition(".")
    if not isinstance(config.get(section), dict) or name not in config[section]:
        return False
    try:
        given = yaml.safe_load(value)
    except yaml.YAMLError:  # text with Hydra's quoting
        return False
    off = unregularized(name, given)
    return bool(off != given) and bool(config[section][name] == off)


def idle_settings(overrides: Sequence[str], config: Settings, corpus: Corpus) -> list[str]:
    """A sentence for each group of overrides that have no effect. config: after all checks."""
    by_reason: dict[str, list[str]] = {}
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if is_switched_off(key, value, config):
            by_reason.setdefault("regularize=false", []).append(override)
        for idle in IDLE:
            if key in idle.keys and idle.when(config, corpus):
                by_reason.setdefault(idle.reason, []).append(override)
                break
    return [f"{' '.join(idle_overrides)} has no effect: {reason}" for reason, idle_overrides in by_reason.items()]
