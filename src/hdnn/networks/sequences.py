"""Networks of sequences: read by a recurrent network, said by a linear layer after the last step or after every one.

Legend: B samples, T steps, d inputs, n hidden features; output = W y_T + μ, or W y_t + μ of every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hdnn.arguments import truth
from hdnn.kernels.transforms import batched
from hdnn.networks.network import Network, logits, output_layer
from hdnn.options import Task
from hdnn.recurrent import HamiltonianRNN


class SequenceNetwork(Network):
    """A network of sequences for one task, usually made by `sequence_classifier` or `sequence_regressor`.

    Args:
        rnn: from sequences to states, `HamiltonianRNN` or what is called as it is, such as `torch.nn.GRU`.
        head: linear layer from a state to the outputs.
        task: "classification" or "regression".
        every: whether every step is said, not only the last.
    """

    def __init__(self, rnn: nn.Module, head: nn.Linear, task: Task, every: bool = False) -> None:
        super().__init__(nn.Identity(), rnn, head, task)  # type: ignore[arg-type]
        self.every = truth("every", every)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits, or predictions for regression.

        Args:
            x: (B, T, d), whatever the order of axes that the recurrent network itself takes.
            lengths: (B,), steps of each sequence where shorter ones are padded at their end; None means T. With
                `every`, what is said of the padding means nothing: no loss and no score of this network counts it.

        Returns:
            (B, 1) for two classes, (B, classes) for more, (B, outputs) for regression; with `every` (B, T, the same).
        """
        output: Tensor = self.head(self.features(x, lengths))
        return output

    def features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the output layer sees: the last state (B, n), or with `every` all states (B, T, n).

        Raises:
            ValueError: if x has not three axes, or a length is not from 1 to T.
            TypeError: if lengths are no tensor of whole numbers.
        """
        if lengths is None:
            states = self.states(x)
            return states if self.every else states[:, -1]
        check_lengths(x, lengths)
        lengths = lengths.to(x.device, torch.int64)  # bytes would stand for truths where they are used as indices
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        states = self.states(torch.where(inside[..., None], x, 0))  # whatever the padding holds, nan included
        return states if self.every else states[torch.arange(len(x), device=x.device), lengths - 1]

    def state_size(self, inputs: Sequence[int]) -> int:
        """How many numbers the states after all steps of one sequence (T, d) have."""
        rnn: Any = self.flow
        return int(inputs[0] * rnn.hidden_size * rnn.num_layers)

    def states(self, x: Tensor) -> Tensor:
        """The states after every step, (B, T, n)."""
        if x.dim() != 3:
            raise ValueError(f"Expected sequences of shape (B, T, d); got {tuple(x.shape)}.")
        rnn: Any = self.flow
        output: Tensor = rnn(x if rnn.batch_first else x.transpose(0, 1))[0]
        return output if rnn.batch_first else output.transpose(0, 1)

    def trajectory(self, x: Tensor) -> Tensor:
        """The states after every step, (T, B, n)."""
        return self.states(x).transpose(0, 1)


def check_lengths(x: Tensor, lengths: Tensor) -> None:
    """See that lengths are those of sequences.

    Raises:
        ValueError: if x has not three axes, or a length is not from 1 to T.
        TypeError: if lengths are no tensor of whole numbers.
    """
    kind = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
    if not isinstance(kind, torch.dtype) or kind.is_floating_point or kind.is_complex or kind is torch.bool:
        raise TypeError(f"`lengths` must be a tensor of whole numbers, one for each sequence; got {kind}.")
    if x.dim() != 3:
        raise ValueError(f"Expected sequences of shape (B, T, d); got {tuple(x.shape)}.")
    if lengths.shape == x.shape[:1] and (torch.compiler.is_compiling() or batched(lengths) or not len(lengths)):
        return  # where nobody can look at numbers
    if lengths.shape != x.shape[:1] or not 1 <= lengths.min() <= lengths.max() <= x.shape[1]:
        raise ValueError(
            f"`lengths` must be {len(x)} numbers of steps from 1 to {x.shape[1]}, one for each sequence; got shape "
            f"{tuple(lengths.shape)}, from {int(lengths.min())} to {int(lengths.max())}."
        )


class MarkedSequences(SequenceNetwork):
    """A network of sequences of several lengths in one tensor (B, T, d + 1): the last number of a step marks the end.

    It is 1 at the last step of a sequence and 0 elsewhere; the network does not get to see it. So batches and data sets
    are one tensor, whatever the lengths. Made by `marked_sequences`.
    """

    def features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The state (B, n) at the mark of each sequence."""
        states = self.states(x[..., :-1])
        last = x[..., -1].argmax(1)
        return states.gather(1, last.view(-1, 1, 1).expand(-1, 1, states.shape[-1])).squeeze(1)

    def trajectory(self, x: Tensor) -> Tensor:
        """The states after every step, (T, B, n)."""
        return super().trajectory(x[..., :-1])


def marked_sequences(rnn: nn.Module, outputs: int, task: Task) -> MarkedSequences:
    """A network of marked sequences (B, T, d + 1), as runs have them.

    Args:
        rnn: of d numbers a step.
        outputs: classes, or numbers to predict.
        task: "classification" or "regression".

    Example:
        >>> import torch, hdnn
        >>> network = marked_sequences(hdnn.HamiltonianRNN(2, 8, batch_first=True), 3, "classification")
        >>> x = torch.cat([torch.randn(1, 5, 2), torch.eye(5)[None, :, 3:4]], -1)  # four steps, and padding
        >>> torch.equal(network(x), network(x[:, :4]))
        True
    """
    return MarkedSequences(rnn, _head(rnn, logits(outputs) if task == "classification" else outputs), task)


def sequence_classifier(rnn: nn.Module, classes: int, *, every: bool = False) -> SequenceNetwork:
    """A classifier of sequences (B, T, d), or of each of their steps.

    Args:
        rnn: `HamiltonianRNN`, or what is called as it is, such as `torch.nn.GRU`.
        classes: number of classes, at least 2; two classes get one logit.
        every: a class for every step, not one for the sequence.

    Example:
        >>> import torch, hdnn
        >>> network = hdnn.sequence_classifier(hdnn.HamiltonianRNN(3, 16), classes=4)
        >>> network(torch.randn(5, 20, 3)).shape
        torch.Size([5, 4])
    """
    return SequenceNetwork(rnn, _head(rnn, logits(classes)), "classification", every)


def sequence_regressor(rnn: nn.Module, outputs: int = 1, *, every: bool = False) -> SequenceNetwork:
    """A regressor from sequences (B, T, d), or from each of their steps, to `outputs` numbers.

    Args:
        rnn: as for `sequence_classifier`.
        outputs: numbers to predict.
        every: numbers for every step, not once for the sequence.

    Example:
        >>> import torch, hdnn
        >>> network = hdnn.sequence_regressor(hdnn.HamiltonianRNN(3, 16), every=True)
        >>> network(torch.randn(5, 20, 3)).shape
        torch.Size([5, 20, 1])
    """
    return SequenceNetwork(rnn, _head(rnn, outputs), "regression", every)


def _head(rnn: nn.Module, outputs: int) -> nn.Linear:
    read = rnn if isinstance(rnn, HamiltonianRNN) else _known(rnn)
    return output_layer(read.hidden_size, outputs, next(rnn.parameters()))


def _known(rnn: nn.Module) -> Any:
    """What names its sizes as PyTorch's recurrent networks do, and says one state a step."""
    names = ("hidden_size", "batch_first")
    if not all(hasattr(rnn, name) for name in names):
        raise TypeError(
            f"Expected a recurrent network such as `HamiltonianRNN(d, n)` or `torch.nn.GRU(d, n)`; got "
            f"{type(rnn).__name__}."
        )
    if getattr(rnn, "bidirectional", False) or getattr(rnn, "proj_size", 0):
        raise ValueError("A network of sequences reads states of `hidden_size`: no `bidirectional`, no `proj_size`.")
    return rnn
