"""Word vectors in TensorBoard's projector."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from newsreel.text.tokens import SPECIAL_TOKENS


def add_words(writer: SummaryWriter, tag: str, words: Sequence[str], rows: Tensor, num_words: int) -> None:
    """Add the vectors of the first `num_words` words of a vocabulary, without special tokens, labelled by word.

    rows: (V, E).
    """
    selection = slice(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + num_words)
    writer.add_embedding(rows[selection], metadata=list(words[selection]), tag=tag)
