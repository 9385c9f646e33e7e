"""What training makes small, and how a model does on data.

    (1/s) Σ L(f(x), c) + α_c R_N + α Σ (R_K + R_b) + Σ λ_i P_i

Legend: s samples, f the model, L its loss (that of a `Network` is the logistic or cross-entropy loss, mean square for
regression), R_N = ‖W‖² + ‖μ‖² of the output layer, R_K and R_b how much neighbouring layers of a flow differ (see
`Flow.smoothness`), added up over all flows of the model; P_i penalties of the user's, which the paper does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import starmap
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hdnn.data.pixels import Pixels
from hdnn.modes import evaluating
from hdnn.options import Precision
from hdnn.ranks import Ranks
from hdnn.renames import RECIPE, renamed
from hdnn.stages import Stages
from hdnn.training import answers
from hdnn.training.batches import Call, Inputs, Rows, called, each, parts, placed, source_of, tensors_of
from hdnn.training.checks import check_objective, check_penalty
from hdnn.training.models import first_parameter
from hdnn.training.positions import are_positions
from hdnn.training.recipe import Recipe
from hdnn.training.regularisers import decays, terms_of, weighed
from hdnn.training.scores import Record, Scores, judged, scores_of

Penalty = tuple[float, Callable[[Any], Tensor]]
Loss = Callable[[Any, Any], Tensor]

EVALUATION_BATCH = 4096
_NUMBERS = 2**24  # of a state of a network in stages, 64 MiB


@renamed({old: RECIPE[old] for old in ("alpha", "alpha_c")})
class Objective(nn.Module):
    """The objective as a function of parameters and a batch.

    Called, it uses the network's own parameters; `torch.func.functional_call(objective, parameters, (x, y))` makes
    it a pure function of any others, which can be differentiated, vmapped and stacked.

    Args:
        network: a `Network`, or any module with a loss.
        loss: L, from outputs and targets to their mean loss, such as `torch.nn.functional.cross_entropy`, or to one
            loss a sample, which weights of samples ask for; None takes that of a `Network`.
        smoothness: α, of all flows in the network.
        head_decay: α_c, of the network's `head`.
        label_smoothing: share of probability spread evenly over the classes; of a `Network`'s own loss.
        penalties: (λ_i, P_i) pairs; P_i maps the network to one number, to be made small with the loss.
            `hdnn.analysis.log_upper_bound` of the flow keeps gradients from exploding; it adds the time of 1.5 (h1) to
            2.4 (h2) training steps to each (measured: 64 layers, 4 features, batches of 125, native backend, one core).
        call: what every call of the network gets beside its inputs, by name.
        precision: "bfloat16" runs convolutions and products of the network in 16 bits, by `torch.autocast`.

    Raises:
        TypeError: if there is no loss.
        ValueError: if a regulariser has nothing to weigh.

    Example:
        >>> import torch, hdnn
        >>> objective = Objective(
        ...     hdnn.vector_classifier(2, 2, hdnn.h1(4, 8, step=0.1)),
        ...     smoothness=1e-3,
        ...     penalties=[(1e-3, lambda network: hdnn.analysis.log_upper_bound(network.flow))],
        ... )
        >>> loss, output = objective(torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1]))
        >>> loss.shape, output.shape
        (torch.Size([]), torch.Size([5, 1]))
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss | None = None,
        *,
        smoothness: float = 0.0,
        head_decay: float = 0.0,
        label_smoothing: float = 0.0,
        penalties: Sequence[Penalty] = (),
        call: Call | None = None,
        precision: Precision = "full",
    ) -> None:
        super().__init__()
        check_objective(network, loss, smoothness=smoothness, head_decay=head_decay, label_smoothing=label_smoothing)
        self.network: Any = network
        self.loss = loss
        self.smoothness = smoothness
        self.head_decay = head_decay
        self.label_smoothing = label_smoothing
        self.penalties = tuple(penalties)
        self.call = placed(call, first_parameter(network).device)
        self.precision = precision
        self._begins = False  # whether the next loss is the first of a training, which must depend on the outputs

    def forward(self, x: Inputs, y: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Any]:
        """The objective and the network's outputs on a batch.

        Args:
            x: (B, ...), inputs; see `fit`.
            y: (B,) class indices, or (B, outputs) targets; what the loss asks for.
            weight: (B,), w, see `data_loss`.

        Returns:
            A scalar and (B, outputs).
        """
        output = self.said(x)
        if answers.taught(self):
            y = answers.of_steps(self.network, y, answers.lengths_of(x, self.call))
        return self.of(output, y, weight), output

    def said(self, x: Inputs) -> Any:
        """The network's outputs."""
        return called(self.network, x, self.call) if self.precision == "full" else self._in_16_bits(x)

    def of(self, output: Any, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The objective, from the network's outputs on a batch."""
        loss = self.data_loss(output, y, weight)
        if self.head_decay or self.smoothness:
            loss = loss + weighed(*terms_of(self.network, self.smoothness, self.head_decay))
        return self.penalised(loss)

    def _in_16_bits(self, x: Inputs) -> Any:
        """What the network says, in the kind of numbers of its weights again."""
        like = first_parameter(self.network)
        with torch.autocast(like.device.type, torch.bfloat16):
            output = called(self.network, x, self.call)
        return output.to(like.dtype) if isinstance(output, Tensor) else output

    def penalised(self, loss: Tensor) -> Tensor:
        """The objective from what it is without penalties."""
        for i, (factor, penalty) in enumerate(self.penalties):
            value = penalty(self.network)
            check_penalty(i, value)
            loss = loss + factor * value
        return loss

    def features(self, x: Inputs) -> Tensor:
        """What the output layer sees."""
        found: Tensor = called(self.network.features, x, self.call)
        return found

    def head_loss(self, features: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """What of the objective the output layer can change, on the features of a batch."""
        head = self.network.head
        output = head(features)
        loss = self.data_loss(output, y, weight)
        loss = loss + weighed(decays(head, self.head_decay)) if self.head_decay else loss
        check_dependence(loss, output)
        return loss

    def data_loss(self, output: Any, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean of L over a batch, without regularisers; with weights w of the samples Σ w L / Σ w.

        Args:
            output: (B, outputs).
            y: (B,) class indices, or (B, outputs) targets.
            weight: (B,), not negative; None counts all samples alike. A batch whose weights are all zero has loss 0.

        Raises:
            TypeError: if a loss of the user's gives no tensor.
            ValueError: if outputs and targets of a regression differ in shape, or a loss of the user's gives neither
                one number nor the losses of samples, which alone will do where these have weights.
        """
        if answers.taught(self):
            return self._of_steps(output, y, weight)
        reduction = "mean" if weight is None else "none"
        if self.loss is None:
            return _mean(self._losses(output, y, reduction), weight)
        losses = self.loss(output, y)
        _check_losses(losses, output, y)
        if self._begins:
            self._begins = False  # a later batch may have nothing to learn from
            if not self.penalties:  # which may be all there is to make small
                check_dependence(losses, output)
        return _mean(losses, weight)

    def _of_steps(self, output: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """The mean of L over all steps that count, each with the weight of its sequence."""
        counts = answers.counted(self.network, y)
        losses = self._losses(output, torch.where(counts, y, 0), "none")
        losses = torch.where(counts, losses, 0)
        share = counts.to(losses.dtype)
        if weight is not None:
            share = share * weight.to(losses.dtype).view(-1, *[1] * (y.dim() - 1))
        return (share * losses).sum() / share.sum().clamp_min(torch.finfo(losses.dtype).tiny)

    def _losses(self, output: Tensor, y: Tensor, reduction: str) -> Tensor:
        if self.network.task == "regression":
            # PyTorch would spread (B,) over (B, 1) to (B, B) and train on nonsense.
            if output.shape != y.shape:
                raise ValueError(
                    f"Expected targets of the shape of the outputs, {tuple(output.shape)}; got {tuple(y.shape)}."
                )
            return functional.mse_loss(output, y, reduction=reduction)
        if output.shape[-1] > 1:
            classes = output.movedim(-1, 1)  # of every step of a sequence, (B, classes, T)
            return functional.cross_entropy(classes, y, label_smoothing=self.label_smoothing, reduction=reduction)
        target = y.to(output.dtype)
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(output.squeeze(-1), target, reduction=reduction)


def objective_of(
    network: nn.Module,
    recipe: Recipe,
    loss: Loss | None = None,
    penalties: Sequence[Penalty] = (),
    call: Call | None = None,
) -> Objective:
    """The objective with the regularisers of a recipe."""
    return Objective(
        network,
        loss,
        smoothness=recipe.smoothness,
        head_decay=recipe.head_decay,
        label_smoothing=recipe.label_smoothing,
        penalties=penalties,
        call=call,
        precision=recipe.precision,
    )


def check_dependence(losses: Tensor, output: Any) -> None:
    """Refuse losses that have no gradient where the outputs have one."""
    if isinstance(output, Tensor) and output.requires_grad and not losses.requires_grad:
        raise ValueError(
            "The loss does not depend on the outputs, so nothing could be learned. Look for a detach(), an item() or a "
            "no_grad() in it; where a batch has nothing to learn from, return `0 * output.sum()`."
        )


def _check_losses(losses: Tensor, output: Any, y: Tensor) -> None:
    """Refuse losses of outputs and targets that were spread over each other, and losses in parts."""
    if not isinstance(losses, Tensor):
        raise TypeError(f"The loss must return a tensor; got {type(losses).__name__}.")
    if losses.numel() == 1 or not isinstance(y, Tensor):
        return
    if isinstance(output, Tensor) and losses.numel() > max(output.numel(), y.numel()):
        raise ValueError(
            f"The loss has spread outputs {tuple(output.shape)} and targets {tuple(y.shape)} over each other, to "
            f"losses {tuple(losses.shape)} that compare every sample with others. Give both the same shape, such as "
            f"`output.squeeze(-1)`."
        )
    if len(losses) != len(y):
        raise ValueError(
            f"The loss must return one number, or one for each of {len(y)} samples; got shape {tuple(losses.shape)}. "
            f"Where it leaves samples out, or counts others than samples, take its mean; where it has parts, add them "
            f"up."
        )


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The weighted mean of the losses of samples; without weights they may be a mean already."""
    if weight is None:
        return losses if losses.dim() == 0 else losses.mean()
    if losses.dim() == 0 or len(losses) != len(weight):
        raise ValueError(
            f"Weights of samples weigh the losses of samples, so with them the loss must return one for each, shape "
            f"({len(weight)},); got shape {tuple(losses.shape)}. Give it without its mean, as in "
            f'`loss=functools.partial(torch.nn.functional.cross_entropy, reduction="none")`.'
        )
    if losses.dim() > 1:
        losses = losses.flatten(1).mean(1)
    weight = weight.to(losses.dtype)
    return (weight * losses).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def evaluate(
    network: nn.Module,
    x: Inputs | Iterable[Any],
    y: Tensor | None = None,
    loss: Loss | None = None,
    *,
    score: Scores | None = None,
    call: Call | None = None,
) -> Record:
    """Loss and scores on data, in batches, without gradients and in evaluation mode, which modules leave again.

    Args:
        network: a `Network`, or any module with a loss.
        x: (s, ...), inputs as for `fit`; or a loader of batches (x, y), without y. Weights in them are not looked at.
        y: (s,) class indices, or (s, outputs) targets; what the loss asks for; of every step of sequences as in `fit`.
        loss: see `Objective`.
        score: functions of outputs and targets of all samples, by the name of what they find, as in `fit`.
        call: what every call of the network gets beside its inputs, by name.

    Returns:
        "loss" (no regularisers; of a loader, the mean over its samples) and for a `Network` with its own loss
        "accuracy" (share, 0 to 1) or for regression "error", the root mean square; and what `score` asks for.
    """
    return evaluated(network, x, y, loss, score, call, None)


def evaluated(
    network: nn.Module,
    x: Inputs | Iterable[Any],
    y: Tensor | None,
    loss: Loss | None,
    score: Scores | None,
    call: Call | None,
    ranks: Ranks | None,
) -> Record:
    """What `evaluate` does; where ranks share it, each computes its rows of tensors, and all find the same.

    Args:
        network: as for `evaluate`, like the others.
        x: inputs, or a loader, whose batches each rank computes for itself.
        y: targets.
        loss: None takes that of a `Network`.
        score: further scores.
        call: what every call of the network gets.
        ranks: with the same data, of which this is one; None where this process is alone.
    """
    objective = Objective(network, loss, call=call)
    scores = scores_of(network, loss, score)
    device = first_parameter(network).device
    said, targets, losses = [], [], []
    with torch.no_grad(), evaluating(network):
        size = EVALUATION_BATCH if y is None else _part_size(network, x, objective.call)  # type: ignore[arg-type]
        source = source_of(x, y, device)
        if isinstance(source, Rows):
            source.data = answers.marked(objective, source.data)
        drawn = source.parts(size)
        if ranks is not None and isinstance(source, Rows) and _may_share(network, source, objective.call, ranks):
            drawn = source.shared_parts(size, ranks)
        for batch in drawn:
            batch = batch.each(lambda tensor: tensor.to(device))
            x_part, y_part, *_ = batch if isinstance(source, Rows) else answers.marked(objective, batch)
            output = called(network, x_part, objective.call)
            if ranks is not None and batch.piece is not None:
                output = each(partial(ranks.joined, rows=len(batch.y), piece=batch.piece), output)
            targets.append(y_part)
            at_once = y is not None and isinstance(output, Tensor)  # a loader may have more than memory holds
            if at_once or scores:
                said.append(output)
            if not at_once:
                losses.append(objective.data_loss(output, y_part))
        if losses:
            sizes = [answers.count(network, part) if answers.taught(objective) else len(part) for part in targets]
            loss_of_all = mean_loss(torch.stack(losses).tolist(), sizes)
        else:
            loss_of_all = float(objective.data_loss(torch.cat(said), torch.cat(targets)))
        return {"loss": loss_of_all} | judged(network, scores, said, targets)


def mean_loss(losses: Sequence[float], sizes: Sequence[int]) -> float:
    """The mean over samples of the losses of batches."""
    return math.fsum(starmap(mul, zip(losses, sizes, strict=True))) / sum(sizes)


def outputs(network: nn.Module, x: Inputs, *, call: Call | None = None) -> Tensor:
    """The network's outputs on data of any length, in batches, without gradients, in evaluation mode: (s, outputs).

    Args:
        network: any module.
        x: (s, ...), inputs, as for `fit`.
        call: what every call of the network gets beside its inputs, by name.
    """
    device = first_parameter(network).device
    with torch.no_grad(), evaluating(network):
        given = placed(call, device)
        moved = (each(lambda part: part.to(device), part) for part in parts(x, _part_size(network, x, given)))
        return torch.cat([called(network, part, given) for part in moved])


def _may_share(network: nn.Module, source: Rows, call: Call, ranks: Ranks) -> bool:
    """Whether the outputs of a piece of the rows are those that the whole gives."""
    if source.count < ranks.count or any(
        isinstance(module, _BatchNorm) and module.running_mean is None for module in network.modules()
    ):
        return False  # such a norm takes the moments of what it is given
    return not are_positions(network, source.data.x, call, max(1, source.count // ranks.count))


def _part_size(network: nn.Module, x: Inputs, call: Call) -> int:
    """How many samples are computed at once; all rows where they are the nodes of one graph."""
    flow = getattr(network, "flow", None)
    if isinstance(flow, Stages) and isinstance(x, Tensor | Pixels):  # whose states are larger than what comes in
        return max(1, min(EVALUATION_BATCH, _NUMBERS // (flow.features * math.prod(x.shape[2:]))))
    rows = max((len(part) for part in tensors_of(x) if isinstance(part, Tensor) and part.dim()), default=0)
    return rows if rows > EVALUATION_BATCH and are_positions(network, x, call, EVALUATION_BATCH) else EVALUATION_BATCH


def batches(x: Tensor) -> Sequence[Tensor]:
    """Data of any length in parts that fit into memory."""
    return torch.split(x, EVALUATION_BATCH)
