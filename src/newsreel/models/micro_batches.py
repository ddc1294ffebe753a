"""A network's batch divided into micro-batches that plain threads work on, each with one OpenMP thread.

On CPU, recurrent layers and convolutions of some dozen documents are too small for OpenMP: threads wait for each other
at every time step, and much longer if another process runs. Python threads with a part of the batch each wait once per
pass, since torch releases the global interpreter lock, and their data fit into a core's cache.

Axes: B documents, B' of a part, T tokens, O outputs, X values that a forward pass gives.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from newsreel.embeddings.dropout import draw_seed, mask_generator, seeded_masks
from newsreel.models.network import Network
from newsreel.text.tokens import PAD

MIN_PARTS = 2  # of a batch that is large enough
LENGTH_STEP = 8  # parts are padded to a multiple of it: oneDNN compiles and keeps a program for every length
Result = TypeVar("Result")


class Part(NamedTuple):
    """The documents of a micro-batch, padded to the longest of them and on to a multiple of LENGTH_STEP."""

    rows: Tensor  # (B',) in the batch
    token_ids: Tensor  # (B', T')
    lengths: Tensor  # (B',)


Masks = Callable[[], AbstractContextManager[None]]  # contexts in which dropout draws the same masks
PartForward = Callable[[Part, Masks], Tensor]  # → (B', X), such as logits


def divide(token_ids: Tensor, lengths: Tensor, max_documents: int) -> list[Part]:
    """Divide a batch into parts of documents of similar length, the longest first.

    The parts depend on the batch alone, not on the number of threads.
    """
    num_documents = len(lengths)
    num_parts = max(-(-num_documents // max_documents), min(MIN_PARTS, num_documents))
    parts = []
    for rows in lengths.argsort(descending=True, stable=True).tensor_split(num_parts):
        part_lengths = lengths[rows]
        longest = max(1, int(part_lengths[0]))
        num_tokens = -(-longest // LENGTH_STEP) * LENGTH_STEP
        part_ids = token_ids[:, :num_tokens].index_select(0, rows)
        parts.append(Part(rows, F.pad(part_ids, (0, num_tokens - part_ids.shape[1]), value=PAD), part_lengths))
    return parts


class PartRunner:
    """Calls functions for the parts of a batch, on several threads."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    @property
    def is_divided(self) -> bool:
        """Whether batches have parts."""
        return True

    @contextmanager
    def threads(self, num_threads: int) -> Iterator[None]:
        """Context with threads for the parts. torch has one OpenMP thread in it, unless batches are not divided."""
        if not self.is_divided:
            yield
            return
        before, pool_before = torch.get_num_threads(), self._pool
        torch.set_num_threads(1)
        try:
            with ExitStack() as stack:
                if num_threads > 1:
                    initialize = partial(torch.set_num_threads, 1)
                    self._pool = stack.enter_context(ThreadPoolExecutor(num_threads, "micro-batch", initialize))
                yield
        finally:
            self._pool = pool_before
            torch.set_num_threads(before)

    def map(self, work: Callable[[int], Result], num_parts: int) -> list[Result]:
        """Call a function with the numbers of all parts, on the threads, in this thread's state of autograd."""
        if self._pool is None or num_parts == 1:
            return [work(number) for number in range(num_parts)]
        state = thread_state()

        def work_in_state(number: int) -> Result:
            with ExitStack() as stack:
                for context in state:
                    stack.enter_context(context())
                return work(number)

        return list(self._pool.map(work_in_state, range(num_parts)))


class MicroBatchRunner(PartRunner):
    """Calls a network on the micro-batches of a batch, on several threads.

    Logits and gradients depend on the micro-batches, but not on the number of threads: gradients are added in the
    order of the parts, and each part has its own random numbers for dropout.

    The network gets the whole batch on other devices than CPU, if it is compiled, and if it has one of torch's dropout
    layers.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @property
    def max_documents(self) -> int | None:
        """Most documents of a micro-batch; None if batches are not divided."""
        # The masks of torch's own dropout come from one generator for all threads, in the order in which they ask
        has_torch_dropout = any(isinstance(module, nn.modules.dropout._DropoutNd) for module in self.network.modules())
        return None if has_torch_dropout else self.network.micro_batch_size

    @property
    def is_divided(self) -> bool:
        return self.max_documents is not None

    def __call__(self, token_ids: Tensor, lengths: Tensor, forward: PartForward | None = None) -> Tensor:
        """(B, T), (B,) → (B, X): what `forward` gives for the parts; None: the network's logits."""
        network, max_documents = self.network, self.max_documents
        if token_ids.device.type != "cpu" or max_documents is None:
            if forward is None:
                return network(token_ids, lengths)  # type: ignore[no-any-return]
            rows = torch.arange(len(lengths), device=lengths.device)
            return forward(Part(rows, token_ids, lengths), partial(seeded_masks, draw_seed()))
        parts = divide(token_ids, lengths, max_documents)
        seed = draw_seed() if network.training else 0
        part_forward = forward or self.logits

        def forward_part(number: int) -> Tensor:
            return part_forward(parts[number], partial(mask_generator, (seed, number)))

        weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if torch.is_grad_enabled() and weights:
            return _MicroBatches.apply(self, parts, forward_part, *weights)  # type: ignore[no-any-return, no-untyped-call]
        return in_batch_order(self.map(forward_part, len(parts)), parts)

    def logits(self, part: Part, masks: Masks) -> Tensor:
        """(B', O)."""
        with masks():
            return self.network(part.token_ids, part.lengths)  # type: ignore[no-any-return]


def thread_state() -> list[Callable[[], Any]]:
    """Contexts that give another thread this one's modes of autograd and autocast."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    return [
        lambda: torch.inference_mode(inference),
        lambda: torch.set_grad_enabled(grad),
        lambda: torch.autocast("cpu", dtype, enabled=autocast),
    ]


def in_batch_order(outputs: Sequence[Tensor], parts: Sequence[Part]) -> Tensor:
    """(B', X) outputs of each part → (B, X)."""
    return torch.empty_like(joined := torch.cat(list(outputs))).index_copy_(
        0, torch.cat([part.rows for part in parts]), joined
    )


class _MicroBatches(torch.autograd.Function):
    """The forward pass of all parts, and the backward pass of all parts."""

    @staticmethod
    def forward(
        ctx: Any, runner: MicroBatchRunner, parts: list[Part], forward: Callable[[int], Tensor], *weights: nn.Parameter
    ) -> Tensor:
        def forward_part(number: int) -> Tensor:
            with torch.enable_grad():
                return forward(number)

        ctx.runner, ctx.parts, ctx.weights = runner, parts, weights
        ctx.outputs = runner.map(forward_part, len(parts))
        return in_batch_order([output.detach() for output in ctx.outputs], parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients  # (B, X)
        parts, outputs, weights = ctx.parts, ctx.outputs, ctx.weights

        def backward_part(number: int) -> list[Tensor | None]:
            part = gradient.index_select(0, parts[number].rows)
            return [
                grad.coalesce() if grad is not None and grad.is_sparse else grad
                for grad in torch.autograd.grad(outputs[number], weights, part, allow_unused=True)
            ]

        by_part = ctx.runner.map(backward_part, len(parts))
        del ctx.outputs
        return None, None, None, *(add_up(column) for column in zip(*by_part, strict=True))


def add_up(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of one parameter's gradients, in their order; None if no part has one."""
    present = [gradient for gradient in gradients if gradient is not None]
    if not present:
        return None
    if present[0].is_sparse:
        return concatenated(present)
    total = present[0]
    for gradient in present[1:]:
        total = total + gradient
    return total


def concatenated(gradients: Sequence[Tensor]) -> Tensor:
    """The coalesced sum of coalesced sparse gradients."""
    indices = torch.cat([gradient.indices() for gradient in gradients], dim=1)
    values = torch.cat([gradient.values() for gradient in gradients])
    return torch.sparse_coo_tensor(indices, values, gradients[0].shape, check_invariants=False).coalesce()
