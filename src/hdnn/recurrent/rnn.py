"""The recurrent network, called as `torch.nn.RNN` is.

Legend: T steps, B samples, d inputs, n hidden features, L layers; u (T, B, d) the sequence, y_t the state after step t.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from hdnn.activations import Activation, activation_of, tanh
from hdnn.arguments import real, shown, truth, whole
from hdnn.flow import Backend, Flow
from hdnn.integrators import ForwardEuler
from hdnn.interconnections import Inverse
from hdnn.kernels.transforms import autocasting
from hdnn.names import unknown
from hdnn.presets import h1, h2, ms1, ms3
from hdnn.recurrent.oscillators import CoRNN, Oscillators, UnICORNN
from hdnn.structures import Skew

Model = Literal["h2", "h1", "ms1", "ms2", "ms3", "unicornn", "cornn"]
S = TypeVar("S", Tensor, PackedSequence)

_DAMPED = {"h2": h2, "ms1": ms1, "ms3": ms3}
OSCILLATORS = ("unicornn", "cornn")
MODELS = ("h2", "h1", "ms1", "ms2", "ms3", *OSCILLATORS)


class HamiltonianRNN(nn.Module):
    r"""A recurrent network whose state moves by one Hamiltonian step an input, y_t = step(y_{t−1}; b + V u_t).

    It is called and answers as `torch.nn.RNN`: `output, h_n = rnn(input, hx)`, with sequences (T, B, d), (B, T, d) if
    `batch_first`, (T, d) unbatched, or packed; `h_n` is (L, B, n) in any case.

    Args:
        input_size: d.
        hidden_size: n, the size of the state; even for all models but h1 and ms2.
        num_layers: L; each reads the states of the one before.
        batch_first: whether sequences lead with the samples.
        dropout: of the states that a layer hands to the next, while training.
        model: "h2", whose sensitivities ∂y_T/∂y_t never fall below 1 in norm, or e^(−γ h (T − t) / 2) with a damping γ;
            "ms2" with a damping is the AntisymmetricRNN, y⁺ = y + h σ((A − γ I) y + b + V u); "h1", "ms1", "ms3";
            "unicornn", independent units with a step each, and "cornn", coupled oscillators, of which nothing is
            promised.
        step: h. T steps take the time T h, the horizon; begin with one between 10 and 20, and so with h from 10/T to
            20/T. On four real data sets both did well, and 40 much worse.
        damping: γ ≥ 0 of h2, ms1 and ms3 (momenta, e^(−γ h) a step), ms2 (inside of σ) and cornn (ε); None is no
            damping, and 1 for cornn.
        stiffness: α of unicornn, γ of cornn: the spring that pulls to 0; None is 0, and 1 for cornn.
        activation: σ of the models that are flows.
        backend: as for `Flow`.
        init_std: as for `Flow`.
        frequencies: of h2 with a σ that is u for small u, as tanh is: (lowest, highest) in radians a step, in (0, π).
            The state begins as n/2 oscillators, none acting on another: K_q = K_p = diag((2 sin(θ_i/2) / h)^(1/2))
            with θ_i evenly spaced, and b = 0. Where K y and V u are small, oscillator i turns by θ_i a step and keeps
            what has come in. For sequences of hundreds of steps; it takes a small `input_std`, and small rates for K
            and V. None: K and b are drawn as for `Flow`.
        input_std: standard deviation of V at the start; None is 1/√d.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        cells: the layers: driven shared flows, or `Oscillators`.

    Raises:
        ValueError: if a name is unknown or a choice does not apply to the model.

    References:
        Chang, Chen, Haber, Chi, AntisymmetricRNN, ICLR 2019, https://arxiv.org/abs/1902.09689

    Example:
        >>> import torch, hdnn
        >>> rnn = hdnn.HamiltonianRNN(3, 16, num_layers=2, batch_first=True)
        >>> output, h_n = rnn(torch.randn(5, 20, 3))
        >>> output.shape, h_n.shape
        (torch.Size([5, 20, 16]), torch.Size([2, 5, 16]))
    """

    frequencies: tuple[float, float] | None = None  # of pickles of before
    input_std: float | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        *,
        model: Model = "h2",
        step: float = 0.1,
        damping: float | None = None,
        stiffness: float | None = None,
        activation: Activation | str = "tanh",
        backend: Backend = "auto",
        init_std: float | None = None,
        frequencies: tuple[float, float] | None = None,
        input_std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if whole(name, size) < 1:
                raise ValueError(f"`{name}` must be at least 1; got {size}.")
        if not 0 <= real("dropout", dropout) <= 1:
            raise ValueError(f"`dropout` is a probability, so it must be in [0, 1]; got {dropout}.")
        if dropout and num_layers == 1:
            warnings.warn("`dropout` acts between layers, and there is one alone: it does nothing.", stacklevel=2)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.model = truth("batch_first", batch_first), dropout, model
        self.frequencies, self.input_std = _spread(frequencies, model, activation, init_std), input_std
        if input_std is not None and not 0 <= real("input_std", input_std) < math.inf:
            raise ValueError(f"`input_std` is a standard deviation, at least 0; got {input_std}.")

        def cell(inputs: int) -> Flow | Oscillators:
            if model in OSCILLATORS:
                _require_no_flow(model, activation, backend, init_std)
                return _oscillators(model, hidden_size, inputs, step, damping, stiffness, device, dtype)
            return _flow(
                model, hidden_size, inputs, step, damping, stiffness, activation, backend, init_std, device, dtype
            )

        self.cells = nn.ModuleList(cell(hidden_size if layer else input_size) for layer in range(num_layers))
        self._begin()

    def reset_parameters(self) -> None:
        """Draw the numbers of all layers anew."""
        for cell in self.cells:
            cell.reset_parameters()  # type: ignore[operator]
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Start from oscillators and from inputs of a chosen size, where they are asked for."""
        for cell in self.cells:
            if self.frequencies is not None:
                angles = torch.linspace(*self.frequencies, self.hidden_size // 2, dtype=torch.float64)
                cell.weight.copy_((2 * torch.sin(angles / 2) / cell.step).sqrt().diag())  # type: ignore
                cell.bias.zero_()  # type: ignore[operator]
            if self.input_std is not None:
                nn.init.normal_(cell.input_weight, std=self.input_std)  # type: ignore[arg-type]

    @overload
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...
    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """The states of the last layer after every step, and those of all layers after the last.

        Args:
            input: (T, B, d), (B, T, d) if `batch_first`, (T, d) unbatched, or packed, of which each sequence runs as
                if it were alone.
            hx: (L, B, n), or (L, n) unbatched: the states before the first step; zeros where none are given.

        Returns:
            `output`, of the form of the input with n in the place of d, and `h_n`, of the form of hx.

        Raises:
            ValueError: if shapes do not fit.
            TypeError: if numbers are of another kind than the weights.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        if not isinstance(input, Tensor):
            raise TypeError(f"Expected a tensor or a packed sequence; got {type(input).__name__}.")
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            leading = "B, T" if self.batch_first else "T, B"
            raise ValueError(
                f"Expected sequences of shape ({leading}, {self.input_size}), or (T, {self.input_size}) of one "
                f"alone; got {tuple(input.shape)}."
            )
        alone = input.dim() == 2
        u = input.unsqueeze(1) if alone else input.transpose(0, 1) if self.batch_first else input
        output, h_n = self._run(u, self._beginnings(u, hx, alone))
        if alone:
            return output.squeeze(1), h_n.squeeze(1)
        return output.transpose(0, 1) if self.batch_first else output, h_n

    def _beginnings(self, u: Tensor, hx: Tensor | None, alone: bool = False) -> Tensor:
        """The states before the first step, (L, B, n)."""
        if len(u) == 0:
            raise ValueError("A sequence has at least one step; got none.")
        self._check_numbers("input", u)
        size = (self.num_layers, u.shape[1], self.hidden_size)
        if hx is None:
            return u.new_zeros(size)
        wanted = (size[0], size[2]) if alone else size
        if not isinstance(hx, Tensor):
            raise TypeError(f"`hx` is one tensor of shape {wanted}, for there is no cell state; got {shown(hx)}.")
        if tuple(hx.shape) != wanted:
            raise ValueError(f"Expected `hx` of shape {wanted}; got {tuple(hx.shape)}.")
        self._check_numbers("hx", hx)
        return hx.unsqueeze(1) if alone else hx

    def _check_numbers(self, name: str, x: Tensor) -> None:
        """Refuse other numbers than those of the weights; autocast makes them alike."""
        weight: Any = self.cells[0].weight
        if x.dtype is not weight.dtype and not (autocasting(x.device.type) and x.is_floating_point()):
            raise TypeError(
                f"`{name}` must be of {weight.dtype}, as the weights are; got {x.dtype}. Convert it with "
                f"{name}.to({weight.dtype})."
            )

    def _run(self, u: Tensor, hx: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All layers on (T, B, d); the last states are those after as many steps as a sequence has."""
        ends = []
        for number, (cell, y) in enumerate(zip(self.cells, hx.unbind(0), strict=True)):
            if number and self.dropout:
                u = functional.dropout(u, self.dropout, self.training)
            u = cell.trajectory(y, inputs=u)[1:]  # type: ignore[operator]
            ends.append(u[-1] if lengths is None else u[lengths - 1, torch.arange(u.shape[1], device=u.device)])
        return u, torch.stack(ends)

    def _packed(self, packed: PackedSequence, hx: Tensor | None) -> tuple[PackedSequence, Tensor]:
        u, lengths = pad_packed_sequence(packed._replace(sorted_indices=None, unsorted_indices=None))
        if u.shape[-1] != self.input_size:
            raise ValueError(f"Expected sequences of {self.input_size} features; got {u.shape[-1]}.")
        if hx is not None and packed.sorted_indices is not None:
            hx = hx.index_select(1, packed.sorted_indices)
        output, h_n = self._run(u, self._beginnings(u, hx), lengths.to(u.device))
        output = pack_padded_sequence(output, lengths).data
        if packed.unsorted_indices is not None:
            h_n = h_n.index_select(1, packed.unsorted_indices)
        return packed._replace(data=output), h_n

    def extra_repr(self) -> str:
        """The arguments that are not seen in the cells."""
        said = f"{self.input_size}, {self.hidden_size}"
        said += f", num_layers={self.num_layers}" if self.num_layers != 1 else ""
        said += ", batch_first=True" if self.batch_first else ""
        said += f", dropout={self.dropout}" if self.dropout else ""
        said += f", frequencies={self.frequencies}" if self.frequencies is not None else ""
        said += f", input_std={self.input_std}" if self.input_std is not None else ""
        return f"{said}, model={self.model!r}"


def _spread(
    frequencies: tuple[float, float] | None, model: str, activation: Activation | str, init_std: float | None
) -> tuple[float, float] | None:  # fmt: skip
    """The lowest and the highest frequency, checked."""
    if frequencies is None:
        return None
    if model != "h2":
        raise ValueError(
            f"`frequencies` are those that h2 begins with; got {frequencies} with `{model}`. Leave them out."
        )
    sigma, near = activation_of(activation), torch.tensor([-1e-3, 0.0, 1e-3], dtype=torch.float64)
    if (sigma.value(near) - near).abs().max() > 1e-6:
        raise ValueError(f"`frequencies` take a σ that is u for small u, such as tanh; got {sigma}. Leave them out.")
    if init_std is not None:
        raise ValueError(
            f"`frequencies` say what K is at the start, and so does `init_std`; got both, the latter {init_std}."
        )
    try:
        low, high = (float(angle) for angle in frequencies)
    except (TypeError, ValueError):
        raise TypeError(f"`frequencies` are two numbers, (lowest, highest); got {frequencies!r}.") from None
    if not 0 < low <= high < math.pi:
        raise ValueError(f"`frequencies` are radians a step, 0 < lowest <= highest < π; got {(low, high)}.")
    return low, high


def _flow(
    model: str, features: int, inputs: int, step: float, damping: float | None, stiffness: float | None,
    activation: Activation | str, backend: Backend, init_std: float | None, device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Flow:  # fmt: skip
    """A shared flow that inputs drive, without a length of its own."""
    if stiffness is not None:
        raise ValueError(f"`stiffness` is that of unicornn and cornn; `{model}` has none, got {stiffness}.")
    if model in _DAMPED:
        return _DAMPED[model](
            features, step=step, damping=damping, inputs=inputs, shared=True, activation=activation,
            backend=backend, init_std=init_std, device=device, dtype=dtype,
        )  # fmt: skip
    if model == "ms2":
        if damping is not None and damping < 0:
            raise ValueError(f"`damping` must be 0 or more; got {damping}.")
        return Flow(
            features, step=step, structure=Skew(shift=-(damping or 0.0)), interconnection=Inverse(skew=not damping),
            integrator=ForwardEuler(), inputs=inputs, shared=True, activation=activation, backend=backend,
            init_std=init_std, device=device, dtype=dtype,
        )  # fmt: skip
    if model != "h1":
        raise ValueError(unknown("model", model, MODELS))
    if damping is not None:
        raise ValueError(f"`h1` moves the whole state at once and has no damping; got {damping}. Use h2 or ms2.")
    return h1(
        features, step=step, inputs=inputs, shared=True, activation=activation, backend=backend, init_std=init_std,
        device=device, dtype=dtype,
    )  # fmt: skip


def _require_no_flow(model: str, activation: Activation | str, backend: Backend, init_std: float | None) -> None:
    """Refuse for oscillators what they would not look at."""
    given = {
        "activation": activation in ("tanh", tanh) or repr(activation),
        "backend": backend in ("auto", "eager") or repr(backend),
        "init_std": init_std is None or f"{init_std}",
    }
    for name, value in given.items():
        if value is not True:
            raise ValueError(f"`{name}` is for models that are flows, and {model} is none; got {value}. Leave it out.")


def _oscillators(
    model: str, features: int, inputs: int, step: float, damping: float | None, stiffness: float | None,
    device: torch.device | str | None, dtype: torch.dtype | None,
) -> Oscillators:  # fmt: skip
    if model == "cornn":
        spring, friction = (1.0 if x is None else x for x in (stiffness, damping))
        return CoRNN(features, inputs, step, spring, friction, device=device, dtype=dtype)
    if damping is not None:
        raise ValueError(f"The units of unicornn are undamped; got a damping of {damping}. Use cornn or h2.")
    return UnICORNN(features, inputs, step, stiffness or 0.0, device=device, dtype=dtype)
