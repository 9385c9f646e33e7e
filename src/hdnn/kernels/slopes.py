"""The objective of a network and its gradient in one compiled call: a training step that is not taken.

Legend: B samples of d inputs, P numbers in all parameters of the network.
"""

from __future__ import annotations

from ctypes import addressof, c_double, c_int64
from dataclasses import replace

import torch
from torch import Tensor

from hdnn.kernels import calls
from hdnn.kernels.training import Setup, Trainees, _bound, _check_factors, _packed


class Slope:
    """The objective as a function of the parameters and a batch, with its gradient.

    Args:
        setup: the network, its loss and regularisers; what it says of the optimizer and of clipping is for `move`.
        dtype: of all numbers.

    Raises:
        ValueError: if the setup does not fit together.
    """

    def __init__(self, setup: Setup, dtype: torch.dtype) -> None:
        packed = (_packed(setup.index), _packed(setup.J), _packed(setup.J_index))
        # The extension gets places alone: the setup is kept for its tensors.
        self.setup = replace(setup, index=packed[0], J=packed[1], J_index=packed[2])
        _check_factors(self.setup, dtype)
        still = replace(self.setup, optimizer="sgd", weight_decay=0.0, clip=0.0)
        self._bound = {
            "own": _bound(still),
            "none": _bound(replace(still, loss="none", trains=())),
            "given": _bound(replace(still, loss="given")),
            "move": _bound(replace(self.setup, loss="given")),
        }
        self._double = dtype is torch.float64
        self._still = Trainees.fresh(torch.zeros(1, sum(setup.sizes.values()), dtype=dtype), "sgd")
        self._rows = torch.arange(0)
        # No tensors, which take longer to be told a number than the call takes to read it.
        self._rate, self._no_rate, self._failed, self._ends = c_double(), c_double(), c_int64(), (c_int64 * 2)()
        strides = ("x_model", "y_model", "weight_model", "order_model", "rates_model")
        self._same = {"models": 1, "steps": 1, "taken": 0, **dict.fromkeys(strides, 0)}
        self._same |= {"failed": addressof(self._failed), "bounds": addressof(self._ends)}

    def at(
        self, parameters: Tensor, x: Tensor, y: Tensor, weight: Tensor | None, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The objective and the outputs.

        Args:
            parameters: (P,), the parts one after the other; numbers of its own, which the call may write to.
            x: (B, d).
            y: (B, o) targets, or (B,) int64 classes.
            weight: (B,), or None.
            gradient: (P,), is written: zeros for parts that do not learn, and where the objective is no number.

        Returns:
            A scalar, and (B, o).
        """
        output = x.new_empty(len(x), self.setup.outputs)
        return self._run("own", parameters, x, y, weight, output, gradient), output

    def outputs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B, o), the outputs alone, for a loss that is not known here; arguments as for `at`."""
        output = x.new_empty(len(x), self.setup.outputs)
        self._run("none", parameters, x, None, None, output, None)
        return output

    def pulled(self, parameters: Tensor, x: Tensor, g: Tensor, gradient: Tensor) -> Tensor:
        """The regularisers; the gradient of them and of a loss with the gradient g (B, o) by the outputs is written."""
        return self._run("given", parameters, x, g, None, None, gradient)

    def move(self, trainees: Trainees, x: Tensor, g: Tensor, rate: float, gradient: Tensor) -> Tensor:
        """The regularisers, as from `pulled`, before one step of the optimizer.

        Args:
            trainees: one network; moved in place, but where the regularisers are no number.
            x: (B, d).
            g: (B, o).
            rate: of learning.
            gradient: (P,), is written, clipped.
        """
        self._rate.value = rate
        found = self._run("move", trainees.parameters, x, g, None, None, gradient, trainees)
        trainees.done += self._failed.value < 0
        return found

    def _run(
        self, loss: str, parameters: Tensor, x: Tensor, y: Tensor | None, weight: Tensor | None,
        output: Tensor | None, gradient: Tensor | None, moved: Trainees | None = None,
    ) -> Tensor:  # fmt: skip
        """One step, at rate 0 where nothing is to be moved: what it says before it."""
        rows, place = len(x), calls._place
        if rows != len(self._rows):
            self._rows, self._ends[1] = torch.arange(rows), rows
        self._failed.value = -1
        kept = moved or self._still
        if moved is None and gradient is not None:
            kept.first.zero_()
        found = x.new_empty(())
        x, y, weight = x.contiguous(), _packed(y), _packed(weight)
        network = calls.extension.Trainees(
            done=kept.done,
            x=place(x),
            y=place(y),
            weight=place(weight),
            order=place(self._rows),
            rates=addressof(self._no_rate if moved is None else self._rate),
            parameters=place(parameters),
            first=place(kept.first),
            second=place(kept.second),
            losses=place(found),
            results=place(output),
            gradient=place(gradient),
            **self._same,
        )
        calls.extension.train(self._double, self._bound[loss], network, torch.get_num_threads())
        return found
