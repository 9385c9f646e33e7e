"""The objective of a network and its gradient in one compiled call: a training step that is not taken.

Legend: B samples of d inputs, P numbers in all parameters of the network.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hdnn.kernels import calls
from hdnn.kernels.training import Setup, _bound, _check_factors, _packed


class Slope:
    """The objective as a function of the parameters and a batch, with its gradient.

    Args:
        setup: the network, its loss and regularisers; what it says of the optimizer and of clipping is not used.
        dtype: of all numbers.

    Raises:
        ValueError: if the setup does not fit together.
    """

    def __init__(self, setup: Setup, dtype: torch.dtype) -> None:
        packed = (_packed(setup.index), _packed(setup.J), _packed(setup.J_index))
        # The extension gets places alone: the setup is kept for its tensors.
        self.setup = replace(
            setup, index=packed[0], J=packed[1], J_index=packed[2], optimizer="sgd", weight_decay=0.0, clip=0.0
        )
        _check_factors(self.setup, dtype)
        self._bound = _bound(self.setup)
        self._double = dtype is torch.float64
        self._momentum = torch.zeros(sum(setup.sizes.values()), dtype=dtype)
        self._rate, self._failed = torch.zeros(1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
        self._rows = torch.arange(0)
        self._ends = torch.zeros(2, dtype=torch.int64)

    def at(self, parameters: Tensor, x: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The objective, the outputs and the gradient.

        Args:
            parameters: (P,), the parts one after the other; numbers of its own, which the call may write to.
            x: (B, d).
            y: (B, o) targets, or (B,) int64 classes.
            weight: (B,), or None.

        Returns:
            A scalar, (B, o), and (P,): zeros for parts that do not learn, and where the objective is no number.
        """
        rows = len(x)
        if rows != len(self._rows):
            self._rows, self._ends[1] = torch.arange(rows), rows
        self._failed[0] = -1
        loss, gradient = x.new_empty(()), torch.empty_like(parameters)
        output = x.new_empty(rows, self.setup.outputs)
        x, y, weight = x.contiguous(), y.contiguous(), _packed(weight)
        place = calls._place
        network = calls.extension.Trainees(
            models=1,
            steps=1,
            done=0,
            x=place(x),
            y=place(y),
            weight=place(weight),
            order=place(self._rows),
            bounds=place(self._ends),
            rates=place(self._rate),
            x_model=0,
            y_model=0,
            weight_model=0,
            order_model=0,
            rates_model=0,
            parameters=place(parameters),
            first=place(self._momentum),
            second=0,
            losses=place(loss),
            results=place(output),
            failed=place(self._failed),
            gradient=place(gradient),
            taken=0,
        )
        calls.extension.train(self._double, self._bound, network, torch.get_num_threads())
        return loss, output, gradient
