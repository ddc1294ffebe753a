"""The report of a language model: perplexities, nearest words, sampled documents."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from newsreel.core.markdown import literal, markdown_table, plain
from newsreel.core.storage import write_atomically
from newsreel.embeddings.neighbors import WordVectors
from newsreel.models.language_model import LanguageModel
from newsreel.text.tokens import SPECIAL_TOKENS

NUM_SAMPLES = 3  # of each direction
NUM_SAMPLE_TOKENS = 60
NUM_WORDS, NUM_NEIGHBORS = 15, 5
RANKS = (100, 5_000)  # of the words whose nearest words are shown, from the more to the less frequent


@dataclass(frozen=True)
class LanguageReport:
    """The content of the report of a finished language model."""

    run_dir: Path
    title: str
    commands: Sequence[Sequence[str]]  # arguments of the start and of every resume
    notes: Sequence[str]
    epochs: Sequence[dict[str, float]]
    results: dict[str, Any]
    neighbors: Sequence[tuple[str, str]]
    samples: Sequence[tuple[str, str]]
    view_hint: str

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of the closing table."""
        results = self.results
        perplexities = "  ".join(
            f"{name.removeprefix('val/')} {value:,.1f}" for name, value in results.items() if "perplexity" in name
        )
        return [
            ("language model", self.title),
            ("parameters", f"{results['model/parameters']:,}"),
            ("epochs", f"{results['train/epochs']}, checkpoint of epoch {results['train/kept_epoch']}"),
            ("text", f"{results['tokens/train']:,} tokens of {results['documents/train']:,} documents"),
            ("held out", f"{results['tokens/held_out']:,} tokens of {results['documents/held_out']:,} documents"),
            ("unknown words", f"{results['tokens/unknown_held_out']:.2%} of the held-out tokens are <unk>"),
            ("held-out text", perplexities),
            ("time", f"prepare {results['time/prepare_s']:.1f} s  fit {results['time/fit_s']:.1f} s"),
            ("speed", f"{results['throughput/train_tokens_per_s']:,.0f} training tokens/s"),
            ("peak memory", f"{results['memory/peak_rss_mb']:,.0f} MB"),
        ]

    def table(self) -> str:
        rows = [*self.rows(), ("run directory", str(self.run_dir))]
        rows += [("view", self.view_hint)] if self.view_hint else []
        rows += [("note", note) for note in self.notes]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        rule = "─" * min(100, max(map(len, lines)))
        return "\n".join([rule, *lines, rule])

    def write(self) -> None:
        """Write report.md."""
        names = [name for name in self.epochs[0] if name != "epoch"]
        epochs = [[f"{epoch['epoch']:.0f}", *(f"{epoch[name]:,.4g}" for name in names)] for epoch in self.epochs]
        lines = [
            f"# {plain(self.title)}",
            "",
            *(f"> {plain(note)}\n" for note in self.notes),
            *markdown_table(["", ""], [(name, plain(value)) for name, value in self.rows()]),
            "",
            "The perplexity is exp of the mean negative log probability of a held-out token with the full softmax. "
            "Tokens are words, `<unk>` for all words outside the vocabulary, and the end of each document, so "
            "perplexities can only be compared if the vocabulary is the same. The training loss is that of the sampled "
            "softmax, with dropout, and cannot be compared with the validation loss.",
            "",
            "## Nearest words",
            "",
            *markdown_table(["word", "nearest words by the cosine of their vectors"], self.neighbors),
            "",
            "## Sampled documents",
            "",
            *(f"- {name}: {text}" for name, text in self.samples),
            "",
            "## Epochs",
            "",
            *markdown_table(["epoch", *names], epochs),
            "",
            "## Command",
            "",
            *(f"    {shlex.join(['python', 'pretrain.py', *arguments])}" for arguments in self.commands),
            "",
        ]
        write_atomically(self.run_dir / "report.md", "\n".join(lines))


def neighbor_rows(tokens: Sequence[str], rows: Tensor) -> list[tuple[str, str]]:
    """Frequent words, without the most frequent ones, and their nearest words. rows: (V, E), by frequency."""
    first, last = (min(rank, len(tokens) - 1) for rank in RANKS)
    ranks = np.unique(np.geomspace(max(first, len(SPECIAL_TOKENS)), max(last, len(SPECIAL_TOKENS)), NUM_WORDS).round())
    vectors = WordVectors.of(tokens, rows)
    shown = []
    for word in (tokens[int(rank)] for rank in ranks if int(rank) < len(tokens)):
        if word in vectors.words:
            nearest = vectors.nearest(vectors.direction(word), NUM_NEIGHBORS, but=[word])
            shown.append((literal(word), ", ".join(f"{literal(other)} {cosine:.2f}" for other, cosine in nearest)))
    return shown


def sampled_documents(network: LanguageModel, tokens: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Beginnings of documents that the model draws, escaped for Markdown, with the direction of each."""
    was_training = network.training
    network.eval()
    samples = []
    for direction, is_reversed in enumerate(network.reversed):
        random = np.random.default_rng([seed, direction])
        for _ in range(NUM_SAMPLES):
            drawn = network.generate(NUM_SAMPLE_TOKENS, random, direction)
            text = " ".join(tokens[token] for token in drawn)
            full = len(drawn) == NUM_SAMPLE_TOKENS
            text = f"… {text}" if full and is_reversed else f"{text} …" if full else text
            samples.append(("backward" if is_reversed else "forward", literal(text)))
    network.train(was_training)
    return samples
