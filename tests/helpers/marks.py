"""Parameters of tests that `make test` leaves out, because others stand for them."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any, id: str | None = None) -> Any:
    """One row of parameters, marked slow."""
    return pytest.param(*values, marks=pytest.mark.slow, id=id)


def with_fast(fast: Iterable[tuple[Any, ...]], rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """All rows of parameters, slow unless they are among the fast ones."""
    chosen = list(fast)
    return [row if row in chosen else slow(*row) for row in rows]
