"""Adam that updates only the rows of an embedding table that a batch looks up."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class LazyAdam(torch.optim.Adam):
    """Adam (Kingma and Ba 2015) whose groups with `lazy=True` hold tables of which a step changes few rows.

    Rows without a gradient keep their values and moments, whereas Adam moves them by their decaying momentum. The
    others are updated with Adam's equations; bias correction counts all steps. torch.optim.SparseAdam does the same for
    sparse gradients; this class also takes dense ones, whose rows of zeros are those without a gradient, and other
    parameters in groups of their own.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__([{"lazy": False, **group} for group in params], **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        lazy = [(group, table, table.grad) for group in self.param_groups if group["lazy"] for table in group["params"]]
        for _, table, _ in lazy:
            table.grad = None  # Adam skips it
        super().step()
        for group, table, gradient in lazy:
            table.grad = gradient
            if gradient is not None:
                self._update_rows(group, table, *rows_with_gradient(gradient))
        return loss

    def _update_rows(self, group: dict[str, Any], table: Tensor, rows: Tensor, gradient: Tensor) -> None:
        """rows: (R,) of a (V, E) table. gradient: (R, E)."""
        state = self.state[table]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(table)
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1
        step, (beta1, beta2) = float(state["step"]), group["betas"]
        mean = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        scale = square.sqrt_().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
        change = mean.div_(scale).mul_(-float(group["lr"]) / (1 - beta1**step))
        table.index_add_(0, rows, change)


def rows_with_gradient(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) rows of a (V, E) gradient, sparse or dense, that are not zero, and (R, E) their gradients."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    rows = gradient.any(dim=1).nonzero()[:, 0]
    return rows, gradient.index_select(0, rows)
