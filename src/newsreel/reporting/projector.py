"""Word vectors in TensorBoard's projector."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from newsreel.text.tokens import SPECIAL_TOKENS


def add_words(writer: SummaryWriter, tag: str, words: Sequence[str], rows: Tensor, num_words: int) -> None:
    """Show the first `num_words` words of a vocabulary, the special tokens left out, labelled.

    rows: (V, E).
    """
    chosen = slice(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + num_words)
    writer.add_embedding(rows[chosen], metadata=list(words[chosen]), tag=tag)
