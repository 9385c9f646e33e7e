"""A stage: a flow whose hidden units are kept in range, as deep networks of images need it.

Legend: as in `normalization`; N layers, n features, m hidden units.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args, overload

import torch
from torch import Tensor, nn

from hdnn import entries
from hdnn.flow import Flow
from hdnn.flow.memory import layer_by_layer
from hdnn.flow.parameters import refresh
from hdnn.hamiltonian import Field
from hdnn.ranks import share
from hdnn.stages import reversal
from hdnn.stages.halves import Halves
from hdnn.stages.normalization import Moments, Normalization, NormalizedDrive, Numbers, folded

_MOST_STAGES = 4  # calls of a field in a step of the whole state, those of Runge and Kutta
_OF_UNITS = Numbers._fields[3:]
_UNITS, _INPUTS = ("mean", "variance"), ("input_mean", "input_variance")


class Stage(nn.Module):
    """A flow with normalised hidden units, or with none normalised.

    "units" scales the units and their way back alike, so that every layer in evaluation mode is one of a plain flow
    (`folded()`): whatever the flow keeps, M J Mᵀ = J, it keeps. "batch" is the published block, batch norm before and
    after K: reversible, det M = 1, and no gradient of an energy, so that M J Mᵀ = J falls. "bias" has no statistics,
    two biases instead, and keeps what the flow keeps. None is the flow itself. While training, the statistics of the
    batch tie its samples to each other, and what is kept is kept for them together.

    Parameters are those of `flow`, and `gain` (N, m) for "units" and "batch", `input_shift` (N, n) for "batch" and
    "bias", `input_gain` (N, n) for "batch". Under `torch.autocast` states stay as they are, and convolutions run in the
    lower precision.

    Args:
        flow: of images or signals, with an explicit integrator; its `memory` says what is kept for gradients. In
            float32 "reverse" keeps the states of a stage in float64 on a grid of 2⁻³⁴, where sums have no rounding:
            layers are undone to the bit at any depth and whatever ‖M⁻¹‖ is, under autocast too, with less rounding
            than "store"; of an undamped `Splitting` alone, states below 500,000. Where `torch.compile` compiles a
            stage that takes statistics of a batch, all states are kept.
        normalization: "units", "batch", "bias" or None.
        momentum: share of a batch in running means and variances, as of `torch.nn.BatchNorm2d`.

    Raises:
        ValueError: if the flow has no weights of its own to normalise, positions or an explicit step.

    References:
        Chang et al., Reversible architectures for arbitrarily deep residual neural networks, AAAI 2018,
        https://arxiv.org/abs/1709.03698 (the block of "batch" and "bias")

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.h2(16, layers=3, step=0.5, kernel_size=3, activation="relu", memory="reverse")
        >>> stage = Stage(flow)
        >>> y = stage(torch.randn(8, 16, 12, 12))
        >>> plain = stage.eval().folded()
        >>> bool(plain.preserves_structure)
        True
    """

    mean: Tensor | None
    variance: Tensor | None
    input_mean: Tensor | None
    input_variance: Tensor | None
    gain: nn.Parameter | None
    input_gain: nn.Parameter | None
    input_shift: nn.Parameter | None

    def __init__(self, flow: Flow, normalization: Normalization | None = "units", *, momentum: float = 0.1) -> None:
        super().__init__()
        check(flow, normalization)
        if not 0 < momentum <= 1:
            raise ValueError(f"`momentum` is the share of a batch in running numbers, in (0, 1]; got {momentum}.")
        self.flow = flow
        self.normalization = normalization
        self.momentum = momentum
        stored, m, n = *flow.bias.shape, flow.features
        kept = {"units": _UNITS, "batch": (*_UNITS, *_INPUTS)}.get(str(normalization), ())
        for name in (*_UNITS, *_INPUTS):
            size = n if name.startswith("input") else m
            start = torch.ones if name.endswith("variance") else torch.zeros
            self.register_buffer(name, start(stored, size).to(flow.bias) if name in kept else None)
        trained = {"units": ("gain",), "batch": ("gain", "input_gain", "input_shift"), "bias": ("input_shift",)}
        for name in ("gain", "input_gain", "input_shift"):
            has = name in trained.get(str(normalization), ())
            size = m if name == "gain" else n
            self.register_parameter(name, nn.Parameter(flow.bias.new_empty(stored, size)) if has else None)
        self.reset_parameters(of_flow=False)

    @torch.no_grad()
    def reset_parameters(self, *, of_flow: bool = True) -> None:
        """Gains 1, shifts and biases of units 0, running means 0 and variances 1, and a flow drawn anew.

        Args:
            of_flow: draw K anew, too.
        """
        if of_flow:
            self.flow.reset_parameters()
        if self.normalization is not None:
            self.flow.bias.zero_()
        for numbers, value in (
            (self.gain, 1.0),
            (self.input_gain, 1.0),
            (self.input_shift, 0.0),
            (self.mean, 0.0),
            (self.variance, 1.0),
            (self.input_mean, 0.0),
            (self.input_variance, 1.0),
        ):
            if numbers is not None:
                numbers.fill_(value)

    @overload
    def forward(self, y: Tensor) -> Tensor: ...
    @overload
    def forward(self, y: Halves) -> Halves: ...
    def forward(self, y: Tensor | Halves) -> Tensor | Halves:
        """The state after the last layer.

        Args:
            y: (B, n, H, W) or (B, n, L), as the flow says.

        Returns:
            The shape of y.
        """
        flow, moments = self.flow, self._moments(y)
        if isinstance(y, Halves):
            if y.shape[1] != flow.features:
                flow.space.check(y.joined(), flow.features)
            y = Halves(*flow.integrator.steps_apart(self._all_fields(moments, y), *y, flow.step))
            self._track(moments, y)
            return y
        flow.space.check(y, flow.features)
        if flow.memory == "reverse" and y.dtype in (torch.bfloat16, torch.float16):
            y = y.to(flow.weight.dtype)  # a stem under autocast gives 16 bits, whose sums nothing can undo
        # In a compiled graph nothing that is run again or undone may write moments: there all states are kept.
        memory = "store" if moments.open and torch.compiler.is_compiling() else flow.memory
        if memory == "reverse" and flow.layers and reversal.serves(flow.integrator, y):
            bind = partial(self._field, moments)
            y = reversal.run(bind, flow.integrator, flow.step, flow.layers, y, self._numbers(y))
        else:
            y = layer_by_layer(flow.integrator, self._all_fields(moments, y), y, flow.step, memory)
        self._track(moments, y)
        return y

    @property
    def apart(self) -> bool:
        """Whether the halves of a state may come and go in two pieces: they move apart, and all states are kept."""
        return self.flow.integrator.separable_only and self.flow.memory in (None, "store")

    def trajectory(self, y: Tensor) -> Tensor:
        """The state before the first layer and after every layer, (N + 1, *shape of y), in evaluation mode.

        While training, a pass of its own would count in the running moments; call `eval()` first, or `forward`.
        """
        states = [y]
        for field in self._all_fields(None, y):
            states.append(self.flow.integrator.step(field, states[-1], self.flow.step))
        return torch.stack(states)

    def inverse(self, y: Tensor) -> Tensor:
        """The input whose output is y; while training, that of the whole batch.

        Raises:
            ValueError: if the integrator has no explicit inverse.
        """
        for field in reversed(self._all_fields(None, y)):
            y = self.flow.integrator.inverse(field, y, self.flow.step)
        return y

    def folded(self) -> Flow:
        """The plain flow that this stage is in evaluation mode: a copy, with the running moments in its weights.

        Analysis, export and fused kernels take it as any other flow.

        Raises:
            ValueError: for "batch", which no plain flow is, and for "bias", whose shift before a zero-padded K is
                none of its biases.
        """
        if self.normalization in ("batch", "bias"):
            reason = {
                "batch": "batch norm before K is no gradient of an energy",
                "bias": "a shift before a zero-padded K is no bias behind it",
            }[self.normalization]
            raise ValueError(
                f'A stage with normalization="{self.normalization}" is no plain flow: {reason}. Use '
                f'normalization="units", or `sensitivity` functions that take any module.'
            )
        flow = copy.deepcopy(self.flow)
        if self.gain is not None and self.mean is not None and self.variance is not None:
            K, b = folded(self.flow.K, self.gain, self.flow.bias, self.mean, self.variance)
            index = flow.structure.index(flow.features, flow.space)
            free = None if index is None else entries.taken(K.detach(), index)
            if free is None:
                raise ValueError(f"`{flow.structure!r}` has no members whose rows are scaled one by one. Use `h2`.")
            with torch.no_grad():
                flow.weight.copy_(free.reshape(flow.weight.shape))
                flow.bias.copy_(b)
        return flow

    def fields(self, moments: Moments | None = None) -> list[Field]:
        """The vector field of every layer as it is now, in training or evaluation mode."""
        return self._all_fields(moments, None)

    def _all_fields(self, moments: Moments | None, y: Tensor | Halves | None) -> list[Field]:
        layers = self.flow.layers
        return self._fields(self._numbers(y), layers, moments) if layers else []

    def _measures(self, y: Tensor | Halves | None) -> bool:
        """Whether the moments are those of the batch: while training, but of one that is empty and has none."""
        part = y.p if isinstance(y, Halves) else y
        return self.training and (part is None or part.numel() > 0 or share() is not None)

    def _numbers(self, y: Tensor | Halves | None) -> tuple[Tensor | None, ...]:
        """All that a layer is made of, stacked: free weights, biases and J, then what `Numbers` has from `gain` on."""
        refresh(self.flow)
        running = (self.mean, self.variance, self.input_mean, self.input_variance)
        of_units = (self.gain, self.input_gain, self.input_shift, *((None,) * 4 if self._measures(y) else running))
        return self.flow.weight, self.flow.bias, self.flow._J(), *of_units

    def _field(self, moments: Moments | None, numbers: Sequence[Tensor | None]) -> Field:
        """That of one layer."""
        return self._fields(numbers, 1, moments)[0]

    def _fields(self, given: Sequence[Tensor | None], layers: int, moments: Moments | None) -> list[Field]:
        flow, (weight, b, J, *of_units) = self.flow, given
        parts = [
            Numbers(
                K,
                b[:, units],  # type: ignore[index]
                W,
                *(
                    None if x is None else x[:, _own(name, units, inputs)]
                    for name, x in zip(_OF_UNITS, of_units, strict=True)
                ),
            )
            for (K, W), (units, inputs) in zip(self._weights(weight, J), self._places(), strict=True)  # type: ignore[arg-type]
        ]
        stacks = [zip(*(entries.per_layer(x, layers) for x in part), strict=True) for part in parts]
        space, sigma = flow.space, flow.activation
        found = [
            tuple(NormalizedDrive(Numbers(*of), space, sigma, half, moments) for half, of in enumerate(of_layer))
            for of_layer in zip(*stacks, strict=True)
        ]
        return [Field(drives, space.axis) for drives in found]  # type: ignore[arg-type]  # they drive as others do

    def _weights(self, weight: Tensor, J: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """K and W of every drive, stacked."""
        flow = self.flow
        apart = flow.integrator.separable_only
        if apart and flow.hamiltonian.canonical and flow.structure.kernel == "block_diagonal":
            K_p, K_q = weight.unbind(1)  # p' = K_qᵀ σ(K_q q + b_q), q' = −K_pᵀ σ(K_p p + b_p): nothing is built
            return [(K_q, K_q), (K_p, -K_p)]
        K = flow.structure.build(weight, flow.places(weight.device).weight)
        W = flow.interconnection.drive(J, K, flow.space)
        if not apart:
            return [(K, W)]
        return [
            (K[:, units, inputs], None if W is None else W[:, units, moved])
            for (units, inputs), moved in zip(self._places(), flow.hamiltonian._halves, strict=True)
        ]

    def _places(self) -> list[tuple[Any, Any]]:
        """Of every drive, which units and which features are its own."""
        flow = self.flow
        if not flow.integrator.separable_only:
            return [(slice(None), slice(None))]
        return list(zip(flow.hamiltonian.units, reversed(flow.hamiltonian._halves), strict=True))

    def _running(self, y: Tensor | Halves) -> dict[str, Tensor]:
        names = (*_UNITS, *_INPUTS) if self._measures(y) else ()
        return {name: x for name in names if (x := getattr(self, name)) is not None}

    def _moments(self, y: Tensor | Halves) -> Moments:
        """Where a pass may note what it meets."""
        moves = len(self.flow.integrator.fractions) or _MOST_STAGES
        running = self._running(y).items()
        return Moments(
            self.flow.layers * moves,
            [{name: x[:, _own(name, *places)] for name, x in running} for places in self._places()],
        )

    def _track(self, moments: Moments, y: Tensor | Halves) -> None:
        """Let the running moments take up what a pass has met; of several calls of a drive in a layer, the last."""
        noted, moments.open = moments.open and any(moments.calls), False
        if not noted:
            return  # before gradients are switched off: an exported program holds no switch around nothing
        with torch.no_grad():
            for name, running in self._running(y).items():
                met = running.clone()
                for half, places in enumerate(self._places()):
                    last = moments.last(half, name, self.flow.layers)
                    met[:, _own(name, *places)] = last if len(running) > 1 else last.mean(0, keepdim=True)
                running.lerp_(met, self.momentum)

    def extra_repr(self) -> str:
        """How units are kept in range."""
        return f"normalization={self.normalization!r}"


def check(flow: Any, normalization: object) -> None:
    """Refuse what is no stage.

    Raises:
        TypeError: if `flow` is no flow.
        ValueError: see `Stage`.
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"A stage is made of a flow, such as `hdnn.h2(...)`; got {type(flow).__name__}.")
    if normalization is not None and normalization not in get_args(Normalization):
        raise ValueError(f'`normalization` must be "units", "batch", "bias" or None; got {normalization!r}.')
    if flow.space.axis == -1:
        raise ValueError("A stage has positions: give its flow `kernel_size=3`, or `space=hdnn.Signals(5)`.")
    if flow.interconnection.is_inverse and normalization is not None:
        raise ValueError(
            f"`Inverse` sets J = K⁻ᵀ, and a K whose units are scaled or shifted has another; got {normalization!r}. "
            f"Use `h2`, `h1` or `ms3`, or normalization=None."
        )
    if not flow.integrator.explicit:
        raise ValueError(f"`{flow.integrator!r}` solves for its step. Use `SymplecticEuler()` or another explicit one.")
    if flow.damping_weight is not None:
        raise ValueError("A stage takes no learned damping; give the integrator a fixed `damping=`.")
    if flow.recurrent or flow.inputs is not None or flow.ports is not None:
        raise ValueError(
            "A stage is called with a state alone; make its flow without `inputs=` and `ports=`, and with `layers=`."
        )
    if flow._beside:
        raise ValueError("A stage has gains of its own; make its flow without `unit_weights=`.")


def _own(name: str, units: Any, inputs: Any) -> Any:
    """Where numbers of that name have those of a drive."""
    return inputs if name.startswith("input") else units
