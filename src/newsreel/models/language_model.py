"""A recurrent language model: predicts every word of a text from the words before it, or from those after it.

Axes: D directions, T time steps, S streams, E embedding dimensions, H hidden size, V words, C candidates of the
softmax, N predicted tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn
from torchmetrics import Metric

from newsreel.batches.streams import IGNORED, StreamBatch
from newsreel.embeddings.dropout import Dropout, draw_seed, dropout_mask, mask_generator
from newsreel.embeddings.embedding import TableEmbedding
from newsreel.models.micro_batches import PartRunner, add_up
from newsreel.models.optimization import LanguageModelTraining
from newsreel.models.recurrent import CELLS, MICRO_BATCH_SIZES, REVERSED, CellName, Directions, initialize, run_cell
from newsreel.models.sampled_softmax import (
    LossGradients,
    Proposal,
    WordSample,
    full_loss,
    log_probabilities_of,
    sampled_loss,
)
from newsreel.models.trained_module import MeanLoss, TrainedModule
from newsreel.text.tokens import PAD, UNK

States = list[tuple[Tensor, ...]]  # of each layer: (1, S, H), for LSTMs also the cell states
PERPLEXITY = "perplexity"
MAX_LOSS = 50.0  # of a token, so that the perplexity of a diverged model is a number


@dataclass(frozen=True, kw_only=True)
class LanguageModelSettings:
    """The settings of the section `model` that a language model has; those of `RecurrentNetwork`."""

    cell: CellName
    directions: Directions
    hidden_size: Annotated[int, Ge(1), Le(65_536)]
    num_layers: Annotated[int, Ge(1), Le(100)]
    dropout: Annotated[float, Ge(0), Lt(1)]
    recurrent_dropout: Annotated[float, Ge(0), Lt(1)]


class LanguageModel(nn.Module):
    """Layers of a recurrent cell over an embedding, and a softmax over the vocabulary.

    With both directions there are two models, which read the text in either direction and predict their own next word;
    they share the embedding and the output weights. The weights have the names and shapes of `RecurrentNetwork`, so
    that a classifier can start from them; only layers above the first of a classifier with both directions, which read
    both of them, have no counterpart.

    dropout: of the outputs, and between layers. recurrent_dropout: as in `RecurrentNetwork`.
    """

    def __init__(self, embedding: TableEmbedding, settings: LanguageModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = embedding
        hidden_size = settings.hidden_size
        self.reversed = REVERSED[settings.directions]
        sizes = [embedding.dimension, *[hidden_size] * (settings.num_layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(CELLS[settings.cell](size, hidden_size) for _ in self.reversed) for size in sizes
        )
        for direction in range(len(self.reversed)):
            for cell in self.cells(direction):
                initialize(cell)
        self.dropout = Dropout(settings.dropout)
        bound = hidden_size**-0.5
        weights = torch.empty(embedding.num_words, hidden_size).uniform_(-bound, bound)
        self.output = nn.Embedding(embedding.num_words, hidden_size, _weight=weights)
        self.output_bias = nn.Embedding(embedding.num_words, 1, _weight=torch.zeros(embedding.num_words, 1))

    def init_bias_from_counts(self, counts: np.ndarray) -> None:
        """Initialise the output bias with the logarithms of the frequencies of words: (V,) counts."""
        smoothed = np.maximum(counts, 0.5)
        with torch.no_grad():
            self.output_bias.weight.copy_(torch.from_numpy(np.log(smoothed / smoothed.sum()))[:, None])

    def cells(self, direction: int) -> list[nn.RNNBase]:
        """The cells of a direction, from the first layer to the last."""
        return [layer[direction] for layer in self.layers]  # type: ignore[index]

    def zero_states(self, num_streams: int) -> States:
        """The states of one direction before the first token."""
        num_states = 2 if self.settings.cell == "lstm" else 1
        zeros = self.output.weight.new_zeros(1, num_streams, self.settings.hidden_size)
        return [(zeros,) * num_states for _ in self.layers]

    def read(self, direction: int, embedded: Tensor, states: States) -> tuple[Tensor, States]:
        """(T, S, E) embedded words, already with dropout → (T, S, H) states of the last layer, and the final states."""
        outputs, final = embedded, []
        for number, (cell, state) in enumerate(zip(self.cells(direction), states, strict=True)):
            if number:
                outputs = self.dropout(outputs)
            outputs, state = run_cell(cell, outputs, state, self.dropped_weights(cell))
            final.append(tuple(each.detach() for each in state))
        return self.dropout(outputs), final

    def dropped_weights(self, cell: nn.RNNBase) -> Tensor:
        """(G · H, H) recurrent weights of a cell, in training with recurrent dropout."""
        weights, probability = cell.weight_hh_l0, self.settings.recurrent_dropout
        assert isinstance(weights, Tensor)
        if not self.training or not probability:
            return weights
        return weights * dropout_mask(weights.shape, probability, weights)

    @torch.no_grad()
    def generate(self, num_tokens: int, random: np.random.Generator, direction: int = 0) -> list[int]:
        """Sample a document, up to its end or `num_tokens` tokens; <unk> is never drawn.

        A backward model draws the last word first; the tokens are returned in the order of reading.
        """
        states, token = self.zero_states(1), PAD
        tokens: list[int] = []
        weights, bias = self.output.weight, self.output_bias.weight[:, 0]
        while len(tokens) < num_tokens:
            embedded = self.embedding(torch.tensor([[token]], device=weights.device))  # (1, 1, E)
            outputs, states = self.read(direction, embedded, states)
            logits = torch.addmv(bias, weights, outputs[0, 0])  # (V,)
            logits[UNK] = -torch.inf
            probabilities = torch.softmax(logits.double(), dim=0).cpu().numpy()
            token = int(random.choice(len(probabilities), p=probabilities / probabilities.sum()))
            if token == PAD:
                break
            tokens.append(token)
        return tokens[::-1] if self.reversed[direction] else tokens


class Part(NamedTuple):
    """Some streams of one direction."""

    direction: int
    streams: slice


@dataclass(frozen=True)
class StepTables:
    """The rows of the tables that a step needs, as leaves of its graph, and the step's tokens as indices into them."""

    word_rows: Tensor  # (R,) of the embedding table, <pad> first
    words: Tensor  # (R, E)
    token_ids: Tensor  # (D, T, S) indices into `words`
    weights: Tensor  # (C, H) of the output
    bias: Tensor  # (C,)
    targets: Tensor  # (D, T, S) indices into `weights`; IGNORED
    sample: WordSample | None  # None: the full softmax


class LanguageModelModule(TrainedModule):
    """Trains a language model by truncated back-propagation through time.

    The states at the end of a step are those at the start of the next, without gradients across the steps. A step is
    divided into parts, some streams of one direction each, that plain threads work on (see models/micro_batches.py).
    Gradients of the tables are sums over the rows that the step needs.
    """

    unit = "tokens"
    network: LanguageModel

    def __init__(
        self,
        network: LanguageModel,
        training: LanguageModelTraining,
        proposal: Proposal | None,
        hyperparameters: dict[str, Any],
    ) -> None:
        """proposal: of negatives; None: the full softmax. hyperparameters: plain values, for checkpoints."""
        super().__init__()
        self.network = network
        self.runner = PartRunner()
        self.tables = [network.output, network.output_bias]
        if network.embedding.table.weight.requires_grad:
            self.tables.append(network.embedding.table)
        self.training_settings = training
        self.metric = PERPLEXITY
        self.proposal = proposal
        self.train_loss = MeanLoss()
        self.states: list[States] = []  # of each direction; empty at the start of an epoch
        self.eval_states: list[States] = []
        self._losses = np.zeros(len(network.reversed))  # sums over the held-out tokens of each direction
        self._num_tokens = 0
        self.save_hyperparameters(hyperparameters, logger=False)

    def batch_size_of(self, batch: StreamBatch) -> int:
        return batch.num_tokens

    def epoch_metrics(self) -> tuple[Metric, ...]:
        return (self.train_loss,)

    # Parts

    def parts(self, num_streams: int, device: torch.device) -> list[Part]:
        """The parts of a step, which do not depend on the number of threads; one for each direction off the CPU."""
        size = MICRO_BATCH_SIZES[self.network.settings.cell] if device.type == "cpu" else num_streams
        num_parts = -(-num_streams // size)
        bounds = np.linspace(0, num_streams, num_parts + 1).round().astype(int).tolist()
        return [
            Part(direction, slice(start, end))
            for direction in range(len(self.network.reversed))
            for start, end in pairwise(bounds)
        ]

    def start_states(self, states: list[States], num_streams: int) -> list[States]:
        """The states to go on from, on the device of the weights; empty ones are zeros."""
        if not states:
            return [self.network.zero_states(num_streams) for _ in self.network.reversed]
        device = self.network.output.weight.device  # those of a checkpoint are on the CPU
        return [[tuple(each.to(device) for each in layer) for layer in layers] for layers in states]

    # Training

    def on_train_epoch_start(self) -> None:
        self.states = []

    def training_step(self, batch: StreamBatch, batch_index: int) -> Tensor:
        self.states = self.start_states(self.states, batch.token_ids.shape[2])
        seed = draw_seed()
        weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        loss: Tensor = _StepFunction.apply(self, batch, seed, *weights)  # type: ignore[no-untyped-call]
        self.last_loss = loss.detach()
        self.train_loss.update(self.last_loss, self.batch_size_of(batch))
        if self.is_logged:
            self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
            self.log("train/loss_step", self.last_loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=1)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        if self.trainer.is_last_batch:
            self.log("train/loss_epoch", self.train_loss.compute(), on_step=False, on_epoch=True, batch_size=1)
            self.train_loss.reset()

    def step_gradients(self, batch: StreamBatch, seed: int) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """The mean loss of a step and its gradients; moves `states` on."""
        tables = self.step_tables(batch, np.random.default_rng([seed, 0]))
        parts = self.parts(batch.token_ids.shape[2], batch.token_ids.device)
        scale = 1 / max(1, int((batch.targets != IGNORED).sum()))

        def work(number: int) -> tuple[Tensor, States, list[Tensor | None]]:
            with mask_generator((seed, number + 1)):
                return self.part_gradients(parts[number], tables)

        results = self.runner.map(work, len(parts))
        self.states = join_states(parts, [states for _, states, _ in results], len(self.network.reversed))
        loss = torch.stack([loss for loss, _, _ in results]).sum() * scale
        shared = [add_up([gradients[column] for _, _, gradients in results]) for column in range(3)]
        gradients = self.table_gradients(tables, shared)
        for direction in range(len(self.network.reversed)):
            own = [result[2][3:] for part, result in zip(parts, results, strict=True) if part.direction == direction]
            cells = [weights for cell in self.network.cells(direction) for weights in cell.parameters()]
            gradients |= {
                weights: total
                for weights, column in zip(cells, zip(*own, strict=True), strict=True)
                if (total := add_up(column)) is not None
            }
        for gradient in gradients.values():
            (gradient.values() if gradient.is_sparse else gradient).mul_(scale)
        return loss, gradients

    def step_tables(self, batch: StreamBatch, random: np.random.Generator) -> StepTables:
        """Look up the rows of a step, and sample its negatives."""
        network, device = self.network, batch.token_ids.device
        tokens = batch.token_ids.cpu().numpy()
        word_rows, indices = np.unique(np.append(tokens, PAD), return_inverse=True)
        token_ids = torch.from_numpy(indices[:-1].reshape(tokens.shape)).to(device)
        rows = torch.from_numpy(word_rows).to(device)
        words = network.embedding.table.weight.detach().index_select(0, rows)
        words.requires_grad_(network.embedding.table.weight.requires_grad)
        weights, bias = network.output.weight.detach(), network.output_bias.weight.detach()[:, 0]
        if self.proposal is None:
            return StepTables(rows, words, token_ids, weights, bias, batch.targets, None)
        targets = batch.targets.cpu().numpy()
        known = targets != IGNORED
        sample = self.proposal.draw(targets[known], random)
        assert sample.rows is not None
        targets = np.where(known, np.searchsorted(sample.rows.numpy(), targets), IGNORED)
        sample = WordSample(*(each.to(device) for each in sample))  # type: ignore[union-attr]
        assert sample.rows is not None
        return StepTables(
            rows,
            words,
            token_ids,
            weights.index_select(0, sample.rows),
            bias.index_select(0, sample.rows),
            torch.from_numpy(targets).to(device),
            sample,
        )

    def part_gradients(self, part: Part, tables: StepTables) -> tuple[Tensor, States, list[Tensor | None]]:
        """The summed loss of a part, its final states, and the gradients of words, output weights, bias and cells."""
        network, direction = self.network, part.direction
        weights = [weights for cell in network.cells(direction) for weights in cell.parameters()]
        targets = tables.targets[direction, :, part.streams].reshape(-1)
        with torch.enable_grad():
            ids = tables.token_ids[direction, :, part.streams]  # (T, S')
            embedded = network.embedding.drop(F.embedding(ids, tables.words, padding_idx=PAD))  # (T, S', E)
            outputs, states = network.read(direction, embedded, part_states(self.states[direction], part))
        known = targets != IGNORED
        flat = outputs.detach().reshape(-1, outputs.shape[2])  # (T · S', H)
        loss = self.loss_gradients(flat[known], targets[known], tables)
        output_gradient = torch.zeros_like(flat)
        output_gradient[known] = loss.states
        wanted = [tables.words, *weights] if tables.words.requires_grad else weights
        gradients = list(torch.autograd.grad(outputs, wanted, output_gradient.view_as(outputs)))
        words = gradients.pop(0) if tables.words.requires_grad else None
        return loss.loss, states, [words, loss.weights, loss.bias, *gradients]

    def loss_gradients(self, states: Tensor, targets: Tensor, tables: StepTables) -> LossGradients:
        if tables.sample is None:
            return full_loss(states, tables.weights, tables.bias, targets)
        return sampled_loss(states, tables.weights, tables.bias, targets, tables.sample)

    def table_gradients(self, tables: StepTables, shared: Sequence[Tensor | None]) -> dict[Tensor, Tensor]:
        """The gradients of the tables from those of their rows: words, output weights and bias."""
        words, weights, bias = shared
        network = self.network
        assert weights is not None
        assert bias is not None
        rows = None if tables.sample is None else tables.sample.rows
        gradients: dict[Tensor, Tensor] = {
            network.output.weight: of_rows(network.output.weight, rows, weights),
            network.output_bias.weight: of_rows(network.output_bias.weight, rows, bias[:, None]),
        }
        if words is not None:
            table = network.embedding.table.weight
            gradients[table] = of_rows(table, tables.word_rows, words)
        return gradients

    # Perplexity

    def on_validation_epoch_start(self) -> None:
        self.eval_states = []
        self._losses = np.zeros(len(self.network.reversed))
        self._num_tokens = 0

    def validation_step(self, batch: StreamBatch, batch_index: int) -> None:
        network = self.network
        self.eval_states = self.start_states(self.eval_states, batch.token_ids.shape[2])
        parts = self.parts(batch.token_ids.shape[2], batch.token_ids.device)
        weights, bias = network.output.weight, network.output_bias.weight[:, 0]

        def work(number: int) -> tuple[float, States]:
            part = parts[number]
            targets = batch.targets[part.direction, :, part.streams].reshape(-1)
            ids = batch.token_ids[part.direction, :, part.streams]
            outputs, states = network.read(
                part.direction, network.embedding(ids), part_states(self.eval_states[part.direction], part)
            )
            known = targets != IGNORED
            values = log_probabilities_of(outputs.reshape(-1, outputs.shape[2])[known], weights, bias, targets[known])
            return -float(values.double().sum()), states

        results = self.runner.map(work, len(parts))
        self.eval_states = join_states(parts, [states for _, states in results], len(network.reversed))
        for part, (loss, _) in zip(parts, results, strict=True):
            self._losses[part.direction] += loss
        self._num_tokens += batch.num_tokens

    def on_validation_epoch_end(self) -> None:
        losses = self._losses / self._num_tokens  # (D,) mean of each direction
        metrics = {"val/loss": losses.mean(), f"val/{PERPLEXITY}": perplexity(losses.mean())}
        if len(losses) > 1:
            names = ["backward" if is_reversed else "forward" for is_reversed in self.network.reversed]
            metrics |= {f"val/{PERPLEXITY}_{name}": perplexity(loss) for name, loss in zip(names, losses, strict=True)}
        self.log_dict({name: float(value) for name, value in metrics.items()}, batch_size=1)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["stream_states"] = self.states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.states = checkpoint["stream_states"]


def perplexity(loss: float) -> float:
    """exp of the mean negative log probability of a token."""
    return float(np.exp(min(loss, MAX_LOSS))) if np.isfinite(loss) else float(np.exp(MAX_LOSS))


def of_rows(table: Tensor, rows: Tensor | None, gradient: Tensor) -> Tensor:
    """The gradient of a table from the (R, E) gradient of its (R,) ascending rows; None: of all."""
    if rows is None:
        return gradient
    return torch.sparse_coo_tensor(rows[None], gradient, table.shape, check_invariants=False, is_coalesced=True)


def part_states(states: States, part: Part) -> States:
    return [tuple(each[:, part.streams].contiguous() for each in layer) for layer in states]


def join_states(parts: Sequence[Part], states: Sequence[States], num_directions: int) -> list[States]:
    """The states of all streams of each direction from those of the parts."""
    joined = []
    for direction in range(num_directions):
        own = [states[number] for number, part in enumerate(parts) if part.direction == direction]
        joined.append(
            [
                tuple(torch.cat(pieces, dim=1) for pieces in zip(*layers, strict=True))
                for layers in zip(*own, strict=True)
            ]
        )
    return joined


class _StepFunction(torch.autograd.Function):
    """Computes the gradients of a step together with its loss, so that a part is finished while it is in the cache."""

    @staticmethod
    def forward(ctx: Any, module: LanguageModelModule, batch: StreamBatch, seed: int, *weights: nn.Parameter) -> Tensor:
        loss, gradients = module.step_gradients(batch, seed)
        ctx.gradients = [gradients.get(each) for each in weights]
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (factor,) = gradients
        step, ctx.gradients = ctx.gradients, None
        if float(factor) != 1.0:
            step = [None if gradient is None else gradient * factor for gradient in step]
        return None, None, None, *step
