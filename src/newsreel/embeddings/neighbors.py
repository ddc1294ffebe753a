"""Neighbours, analogies and cosine similarities of words in an embedding table.

Axes: V words, E dimensions, K neighbours.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from newsreel.core.errors import UserError, suggest

TERM = re.compile(r"([+-])\s*(\S+)")


@dataclass(frozen=True)
class WordVectors:
    """Words with their vectors, without the words whose vectors are all zeros."""

    words: list[str]
    directions: Tensor  # (V, E), each of length 1

    @classmethod
    def of(cls, words: Sequence[str], rows: Tensor) -> "WordVectors":
        """rows: (V, E). Raises UserError if all are zeros."""
        known = rows.norm(dim=1).nonzero()[:, 0].tolist()
        if not known:
            raise UserError("All rows of the embedding table are zeros: there is nothing to compare.")
        return cls([words[row] for row in known], F.normalize(rows[known], dim=1))

    def direction(self, word: str) -> Tensor:
        """(E,) unit vector of a word. Raises UserError for a word without a vector."""
        if word not in self.words:
            raise UserError(
                f"{word!r} is not among the {len(self.words):,} words with a vector{suggest(word, self.words)}"
            )
        return self.directions[self.words.index(word)]

    def similarities(self, words: Sequence[str]) -> Tensor:
        """(N, N) cosine similarities of N words."""
        directions = torch.stack([self.direction(word) for word in words])
        return directions @ directions.T

    def nearest(self, query: Tensor, num_neighbors: int, but: Sequence[str] = ()) -> list[tuple[str, float]]:
        """The K words with the highest cosine similarity to an (E,) query, except `but`, and the similarities."""
        cosines = self.directions @ F.normalize(query, dim=0)  # (V,)
        order = cosines.argsort(descending=True, stable=True).tolist()
        nearest = [(self.words[row], float(cosines[row])) for row in order[: num_neighbors + len(but)]]
        return [(word, cosine) for word, cosine in nearest if word not in but][:num_neighbors]

    def combine(self, expression: str) -> tuple[Tensor, list[str]]:
        """(E,) sum of unit vectors (Levy and Goldberg 2014, eq. 3) for `king - man + woman`, and its words.

        Raises UserError unless the expression consists of words joined by + and -.
        """
        signed = expression.strip()
        signed = signed if signed[:1] in ("+", "-") else f"+ {signed}"
        terms = TERM.findall(signed)
        if len(terms) < 2 or TERM.sub("", signed).strip():
            raise UserError(f"{expression!r} is not an analogy: join words by + and -, as in king - man + woman")
        directions = [self.direction(word) * (1 if sign == "+" else -1) for sign, word in terms]
        return torch.stack(directions).sum(dim=0), [word for _, word in terms]
