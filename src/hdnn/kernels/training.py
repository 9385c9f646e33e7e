"""Training steps in one compiled call: batch, lift, flow, output layer, loss, regularisers, clipping, optimizer.

Any number of steps of one or many networks run without Python in between. What a training remembers between calls is in
its `Trainees`, so that steps may be divided into calls at will: the bits are the same, as they are at any number of
threads and beside any other networks.

Legend: E networks of one shape, s rows of data, P numbers in all parameters of a network; the lift is y_0 = L x + c or
appends zeros, the output layer is W y_N + μ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hdnn.kernels import calls
from hdnn.kernels.plan import Plan

# The order of the parameters in the block of a network.
PARTS = ("lift_weight", "lift_bias", "weight", "bias", "damping", "interconnection", "head_weight", "head_bias")
# The last two are those of a loss that is not known here, see `hdnn.kernels.slopes`.
_LOSSES = {"squares": 0, "binary": 1, "classes": 2, "none": 3, "given": 4}
_OPTIMIZERS = {"adam": 0, "adamw": 1, "sgd": 2}


@dataclass(frozen=True, eq=False)
class Setup:
    """What all networks of a training have in common.

    Args:
        plan: of the flow.
        inputs: d, numbers of a sample.
        outputs: o, columns of W y_N + μ.
        linear: whether the lift is a linear map; else zeros are appended.
        loss: "squares", the mean over the outputs; "binary", the logistic loss of one logit; or "classes", the
            cross-entropy.
        optimizer: "adam", "adamw" or "sgd", with the constants of PyTorch and momentum 0.9.
        alpha: weight of the smoothness over the layers.
        alpha_c: weight of ‖W‖² + ‖μ‖².
        weight_decay: of all parameters, as the optimizer defines it.
        label_smoothing: probability spread evenly over the classes.
        clip: largest norm of the gradient; 0 leaves it alone.
        repeats: how many entries of K each free number fills.
        index: where the free numbers stand in K (see `hdnn.entries`), (m, n); None where K is the weights.
        J: (1 or N, n, n); None where the drive of the plan is no matrix, or J is learned.
        J_index: where the numbers of a learned J stand, (n, n).
        trains: names of the `PARTS` that learn.
        image: (C, H, W) where samples are images, d numbers channel by channel: the lift is then a 3 x 3 convolution
            with padding 1, and the output layer reads the n · H · W numbers of y_N. None for vectors.
    """

    plan: Plan
    inputs: int
    outputs: int
    linear: bool
    loss: Literal["squares", "binary", "classes", "none", "given"]
    optimizer: Literal["adam", "adamw", "sgd"]
    alpha: float = 0.0
    alpha_c: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip: float = 0.0
    repeats: int = 1
    index: Tensor | None = None
    J: Tensor | None = None
    J_index: Tensor | None = None
    trains: tuple[str, ...] = PARTS
    image: tuple[int, int, int] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each of the `PARTS`, in order."""
        plan, n = self.plan, self.plan.features
        channels, height, width = self.image or (0, 1, 1)
        weights, biases, _ = calls.sizes(plan)
        if self.index is not None:
            weights = (1 if plan.shared else plan.layers) * _places(self.index)
        return {
            "lift_weight": n * (9 * channels if self.image else self.inputs) if self.linear else 0,
            "lift_bias": n if self.linear else 0,
            "weight": weights,
            "bias": biases - plan.learn_damping,
            "damping": int(plan.learn_damping),
            "interconnection": 0 if self.J_index is None else _places(self.J_index),
            "head_weight": self.outputs * n * height * width,
            "head_bias": self.outputs,
        }


@dataclass
class Trainees:
    """The networks, and what their optimizers remember; `train` moves all of it in place.

    Args:
        parameters: (E, P), the `PARTS` one after the other.
        first: (E, P), the first moments, or the momentum; zeros before the first step.
        second: (E, P), the second moments; None for "sgd".
        done: steps done.
        failed: (E,) int64, the step (counted from 0) at which the objective was no number; -1 where there is none.
    """

    parameters: Tensor
    first: Tensor
    second: Tensor | None
    done: int
    failed: Tensor

    @classmethod
    def fresh(cls, parameters: Tensor, optimizer: str) -> Trainees:
        """Networks before their first step, with these parameters (E, P)."""
        second = None if optimizer == "sgd" else torch.zeros_like(parameters)
        failed = torch.full((len(parameters),), -1, dtype=torch.int64)
        return cls(parameters, torch.zeros_like(parameters), second, 0, failed)


def why_not(dtype: torch.dtype, device: torch.device) -> str:
    """Why no training can run here, in words; empty if it can."""
    if calls.extension is None:
        return f"the compiled extension is missing ({calls.why_not})"
    if device.type != "cpu":
        return f"it runs on the CPU alone, and the weights are on {device}"
    if dtype not in (torch.float32, torch.float64):
        return f"it takes float32 and float64, and the weights are {dtype}"
    return ""


def train(
    setup: Setup,
    trainees: Trainees,
    x: Tensor,
    y: Tensor,
    order: Tensor,
    bounds: Tensor,
    rates: Tensor,
    sample_weight: Tensor | None = None,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take steps: step t moves every network e by the rows order[e, bounds[t] : bounds[t + 1]] of its data.

    Args:
        setup: what to do.
        trainees: moved in place; see `Session`.
        x: (E, s, d); `expand` it to share data between networks.
        y: (E, s, o) targets, or (E, s) int64 classes.
        order: (E, rows) int64.
        bounds: (T + 1,) int64, rising.
        rates: (T,) or (E, T), the learning rate of each step.
        sample_weight: (E, s), w: the loss of a batch is Σ w L / Σ w.
        gradient: see `Session.take`.

    Returns:
        See `Session.take`.

    Raises:
        ValueError: if arrays do not fit each other or the setup.
        KeyboardInterrupt: see `Session.take`.
    """
    session = Session(setup, trainees, x, y, sample_weight)
    session.begin(order, bounds)
    return session.take(0, rates, gradient)


class Session:
    """Networks bound to their data, so that calls of few steps need not look at all of it again.

    Args:
        setup: what to do.
        trainees: moved in place. A network whose objective is not finite keeps the weights that it had, and its later
            losses are NaN.
        x: (E, s, d); `expand` it to share data between networks.
        y: (E, s, o) targets, or (E, s) int64 classes.
        sample_weight: (E, s), w: the loss of a batch is Σ w L / Σ w.

    Raises:
        ValueError: if arrays do not fit each other or the setup.
    """

    def __init__(
        self, setup: Setup, trainees: Trainees, x: Tensor, y: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        if reason := why_not(trainees.parameters.dtype, trainees.parameters.device):
            raise ValueError(f"The native training cannot serve: {reason}.")
        _check_factors(setup, trainees.parameters.dtype)
        _check_trainees(setup, trainees)
        _check_data(setup, trainees, x, y, sample_weight)
        packed = (_packed(setup.index), _packed(setup.J), _packed(setup.J_index))
        # Kept, for the extension gets their places alone.
        self.setup = replace(setup, index=packed[0], J=packed[1], J_index=packed[2])
        self.trainees, self.rows, self.dtype = trainees, x.shape[1], x.dtype
        self._data = [calls._packed(value, 1) for value in (x, y, sample_weight)]
        self._bound = _bound(self.setup)

    def begin(self, order: Tensor, bounds: Tensor, *, checked: bool = False) -> None:
        """Say which rows the next steps take: step t of network e order[e, bounds[t] : bounds[t + 1]].

        Args:
            order: (E, rows) int64.
            bounds: (T + 1,) int64, rising.
            checked: whether they are known to be so, as numbers of rows; looking at all takes as long as a step.
        """
        if not checked:
            self._check_order(order, bounds)
        self._order, self._bounds = calls._packed(order, 1), bounds.contiguous()
        self._ends: list[int] = bounds.tolist()

    def _check_order(self, order: Tensor, bounds: Tensor) -> None:
        _expect("order", order, torch.int64, (len(self.trainees.parameters), order.shape[-1]))
        _check_range("order", order, self.rows)
        _expect("bounds", bounds, torch.int64, (max(1, len(bounds)),))
        if int(bounds[0]) < 0 or int(bounds[-1]) > order.shape[1] or bool((bounds.diff() <= 0).any()):
            raise ValueError(f"`bounds` must rise within 0 … {order.shape[1]}, so that no batch is empty.")

    def take(self, first: int, rates: Tensor, gradient: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take steps.

        Args:
            first: of them, a number t of `begin`.
            rates: (k,) or (E, k), the learning rate of each step.
            gradient: (E, P), is written: what the last step of each network moved along, clipped, before any weight
                decay of the optimizer; zeros for parts that do not learn and where no step was taken.

        Returns:
            (E, k), the objective of each step before it was taken, and (E, rows, o), the outputs in the order of the
            rows; NaN for the steps after one that failed.

        Raises:
            KeyboardInterrupt: at Ctrl-C, between two steps. A single network may go on from there: `done` counts the
                steps that were taken. In a stack some networks are then further than others.
        """
        trainees, E, steps = self.trainees, len(self.trainees.parameters), rates.shape[-1]
        if gradient is not None:
            _expect("gradient", gradient, self.dtype, tuple(trainees.parameters.shape), contiguous=True)
        if not 0 <= first <= first + steps < len(self._ends):
            raise ValueError(f"There are {len(self._ends) - 1} steps; got rates of {steps} from step {first} on.")
        rates = calls._packed(rates.double().expand(E, steps), 1)
        losses = torch.empty(E, steps, dtype=self.dtype)
        outputs = torch.empty(E, self._ends[first + steps] - self._ends[first], self.setup.outputs, dtype=self.dtype)
        taken = torch.zeros(E, dtype=torch.int64)
        place = calls._place
        each = (*self._data, self._order, rates)
        x_model, y_model, weight_model, order_model, rates_model = (
            0 if value is None else value.stride(0) for value in each
        )
        data, targets, weights, batches, speeds = map(place, each)
        networks = calls.extension.Trainees(
            models=E,
            steps=steps,
            done=trainees.done,
            x=data,
            y=targets,
            weight=weights,
            order=batches,
            bounds=self._bounds.data_ptr() + 8 * first,
            rates=speeds,
            x_model=x_model,
            y_model=y_model,
            weight_model=weight_model,
            order_model=order_model,
            rates_model=rates_model,
            parameters=place(trainees.parameters),
            first=place(trainees.first),
            second=place(trainees.second),
            losses=place(losses),
            results=place(outputs),
            failed=place(trainees.failed),
            gradient=place(gradient),
            taken=place(taken),
        )
        try:
            calls.extension.train(self.dtype is torch.float64, self._bound, networks, torch.get_num_threads())
        except BaseException:
            trainees.done += int(taken.min())
            raise
        trainees.done += steps
        if int(trainees.failed.max()) >= 0:
            self._blank(first, losses, outputs)
        return losses, outputs

    def _blank(self, first: int, losses: Tensor, outputs: Tensor) -> None:
        """No numbers for what networks that failed did not say: the step that met its end said something."""
        done, start = self.trainees.done - losses.shape[1], self._ends[first]
        for told, failed in zip(outputs, self.trainees.failed.tolist(), strict=True):
            if failed >= 0:
                last = first + max(0, failed - done + 1)
                told[self._ends[min(last, first + losses.shape[1])] - start :] = torch.nan


def _places(index: Tensor) -> int:
    """How many free numbers an index places."""
    return int(index.abs().max()) if index.numel() else 0


def _packed(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _bound(setup: Setup) -> Any:
    """The setup as the extension reads it; the setup must outlive it."""
    J, J_index, index = setup.J, setup.J_index, setup.index
    channels, height, width = setup.image or (0, 0, 0)
    one_W = setup.plan.drive == "matrix" and setup.plan.shared and (J is None or len(J) == 1)
    return calls.extension.Training(
        flow=calls.bound(setup.plan, one_W).spec,
        linear=setup.linear,
        inputs=setup.inputs,
        outputs=setup.outputs,
        channels=channels,
        height=height,
        width=width,
        loss=_LOSSES[setup.loss],
        rule=_OPTIMIZERS[setup.optimizer],
        alpha=setup.alpha,
        alpha_c=setup.alpha_c,
        decay=setup.weight_decay,
        smoothing=setup.label_smoothing,
        clip=setup.clip,
        repeats=setup.repeats,
        trains=sum(1 << PARTS.index(name) for name in set(setup.trains)),
        index=calls._place(index),
        free=0 if index is None else _places(index),
        J_index=calls._place(J_index),
        J_free=0 if J_index is None else _places(J_index),
        J=calls._place(J),
        J_layers=1 if J is None else len(J),
    )


def _check_trainees(setup: Setup, trainees: Trainees) -> None:
    dtype, shape = trainees.parameters.dtype, (len(trainees.parameters), sum(setup.sizes.values()))
    if (trainees.second is None) != (setup.optimizer == "sgd"):
        moments = "one moment" if setup.optimizer == "sgd" else "two moments"
        raise ValueError(f'"{setup.optimizer}" remembers {moments}.')
    memory = {"parameters": trainees.parameters, "first": trainees.first, "second": trainees.second}
    for name, value in memory.items():
        if value is not None:
            _expect(name, value, dtype, shape, contiguous=True)
    _expect("failed", trainees.failed, torch.int64, shape[:1], contiguous=True)


def _check_data(setup: Setup, trainees: Trainees, x: Tensor, y: Tensor, weight: Tensor | None) -> None:
    dtype, E, rows = trainees.parameters.dtype, len(trainees.parameters), x.shape[1]
    _expect("x", x, dtype, (E, rows, setup.inputs))
    if setup.loss == "squares":
        _expect("y", y, dtype, (E, rows, setup.outputs))
    else:
        _expect("y", y, torch.int64, (E, rows))
        _check_range("y", y, max(2, setup.outputs))
    if weight is not None:
        _expect("sample_weight", weight, dtype, (E, rows))


def _check_factors(setup: Setup, dtype: torch.dtype) -> None:
    plan, n = setup.plan, setup.plan.features
    if plan.images != (setup.image is not None) or (setup.image and not setup.linear):
        raise ValueError("Images are lifted by a convolution to a flow of images, and vectors to one of vectors.")
    if setup.image and setup.inputs != math.prod(setup.image):
        raise ValueError(f"An image of shape {setup.image} has {math.prod(setup.image)} numbers; got {setup.inputs}.")
    if setup.loss == "binary" and setup.outputs != 1:
        raise ValueError(f'The loss "binary" is of one output; got {setup.outputs}.')
    if not setup.linear and setup.inputs > n:
        raise ValueError(f"Zeros can only be appended: {setup.inputs} inputs do not fit into {n} features.")
    if calls.full_weights(plan) and plan.structure != "dense" and setup.index is None:
        raise ValueError(f'The kernels want K in full, so a "{plan.structure}" structure needs its index.')
    if plan.drive == "identity" and plan.hidden != n:
        raise ValueError(f"Where J Kᵀ = I there are as many hidden units as features, {n}; got {plan.hidden}.")
    if plan.method == "perceptron" and plan.drive != "identity":
        raise ValueError(f'The drive of a "perceptron" is the identity; got "{plan.drive}".')
    if setup.index is not None:
        _expect("index", setup.index, torch.int64, (plan.hidden, n))
    if plan.drive == "matrix":
        if (setup.J is None) == (setup.J_index is None):
            raise ValueError("A drive by a matrix needs one of `J` and `J_index`.")
        if setup.J is not None:
            _expect("J", setup.J, dtype, (1 if len(setup.J) == 1 else plan.layers, n, n))
        if setup.J_index is not None:
            _expect("J_index", setup.J_index, torch.int64, (n, n))
    if unknown := set(setup.trains) - set(PARTS):
        raise ValueError(f"There is no part called {sorted(unknown)[0]!r}; parts are {', '.join(PARTS)}.")


def _expect(name: str, value: Tensor, dtype: torch.dtype, shape: tuple[int, ...], contiguous: bool = False) -> None:
    if value.dtype != dtype or tuple(value.shape) != shape or not value.is_cpu:
        raise ValueError(
            f"`{name}` must be {dtype} of shape {shape} on the CPU; got {value.dtype} of shape {tuple(value.shape)} on "
            f"{value.device}."
        )
    if contiguous and not value.is_contiguous():
        raise ValueError(f"`{name}` is moved in place, so its numbers must lie one after the other.")


def _check_range(name: str, value: Tensor, count: int) -> None:
    if value.numel() and (int(value.min()) < 0 or int(value.max()) >= count):
        raise ValueError(f"`{name}` must run from 0 to {count - 1}; got {int(value.min())} to {int(value.max())}.")
