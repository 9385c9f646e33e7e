"""The plain arguments of a flow and of its calls: checked, and completed where they were left open."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hdnn import entries
from hdnn.arguments import real, require_room, shown, whole
from hdnn.damping import check_way_back
from hdnn.doors import shelled
from hdnn.entries import Slot
from hdnn.hamiltonian import Hamiltonian
from hdnn.integrators import Integrator
from hdnn.interconnections import Interconnection
from hdnn.spaces import Space
from hdnn.structures import Structure

if TYPE_CHECKING:
    from hdnn.flow.module import Flow


def checked_sizes(features: int, layers: int | None, inputs: int | None, shared: bool) -> tuple[int, int | None]:
    """Whole numbers of any kind; refuse those that make no flow."""
    features = whole("features", features)
    if features < 1:
        raise ValueError(f"`features` is the size of the state, so it must be at least 1; got {features}.")
    if inputs is not None and whole("inputs", inputs) < 1:
        raise ValueError(f"`inputs` counts the numbers that drive a step, at least 1; got {inputs}.")
    if layers is None:
        if inputs is None or not shared:
            raise ValueError(
                "A flow without `layers` takes as many steps as its inputs have entries: give `inputs=d`, "
                "`shared=True` and `step=`; or give `layers`."
            )
        return features, None
    layers = whole("layers", layers)
    if layers < 0:
        raise ValueError(f"`layers` must be 0 (the identity) or more; got {layers}.")
    return features, layers


def check_room(
    structure: Structure, features: int, space: Space, layers: int, stored: int, dtype: torch.dtype, device: object
) -> None:
    """Refuse a flow that no memory holds: its weights, and the places of the entries of one K."""
    free = structure.free_shape(features, space)
    what = f"a flow of {features:,} features and {layers:,} layers"
    require_room(8 * features**2 * math.prod(space.taps), what)
    require_room(stored * math.prod(free) * dtype.itemsize, what, device or torch.get_default_device())


def check_memory(memory: str | None, integrator: Integrator, hamiltonian: Hamiltonian) -> None:
    """Refuse what the integrator, or a module in the place of a factor, cannot do."""
    if memory not in (None, "store", "recompute", "reverse"):
        raise ValueError(f'`memory` must be "store", "recompute" or "reverse"; got {memory!r}.')
    if memory in ("recompute", "reverse") and hamiltonian.beyond_units:
        raise ValueError(
            f'memory="{memory}" runs layers again from their numbers alone, and does not know the parameters of an '
            f'energy of one\'s own or of a J(y). Use memory="store".'
        )
    if memory == "reverse" and not integrator.reversible:
        raise ValueError(
            f'memory="reverse" walks back from the output, and `{type(integrator).__name__}` does not state that its '
            f'`inverse` undoes a step (`reversible = True`). Use memory="recompute", or an integrator that does, such '
            f"as `SymplecticEuler` (`h2`, `ms1`, `ms3`)."
        )


def step_size(layers: int | None, step: float | None, horizon: float | None) -> float:
    """The step h from exactly one of h and T."""
    if (step is None) == (horizon is None):
        given = "neither" if step is None else f"step={step} and horizon={horizon}"
        raise ValueError(f"Give exactly one of `step` (h) and `horizon` (T = layers · h); got {given}.")
    name = "step" if horizon is None else "horizon"
    if layers is None and step is None:
        raise ValueError(
            f"Without `layers` the horizon follows from the inputs, so give `step`, h; got a horizon of {horizon}."
        )
    length = real(name, step if step is not None else horizon)
    if not (math.isfinite(length) and length > 0):
        raise ValueError(f"`{name}` must be a positive, finite time; got {length}.")
    return length / (layers or 1) if step is None else length


def known_layers(layers: int | None) -> int:
    """The number of layers.

    Raises:
        ValueError: if the inputs of every call say it.
    """
    if layers is None:
        raise ValueError(
            "This flow has no layers of its own: it takes as many steps as the inputs of a call have entries. Count "
            "and slice the inputs."
        )
    return layers


def floating_point(dtype: torch.dtype | None) -> torch.dtype:
    """What is given, or PyTorch's default."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"`dtype` must be a dtype of PyTorch; got {shown(dtype)}. Use torch.float32 or torch.float64.")
    if not dtype.is_floating_point:
        raise ValueError(f"`dtype` must be a floating-point type; got {dtype}. Use torch.float32 or float64.")
    return dtype


def checked_deviation(init_std: float | None) -> float | None:
    """Of the initial weights: what is given, or None."""
    if init_std is None:
        return None
    init_std = real("init_std", init_std)
    if not (math.isfinite(init_std) and init_std >= 0):
        raise ValueError(f"`init_std` is a standard deviation, so it must be 0 or more; got {init_std}.")
    return init_std


def warn_of_rounding(dtype: torch.dtype, step: float, layers: int | None) -> None:
    """Warn where steps are lost to rounding: a flow adds many small ones to the state."""
    if layers == 0 or not dtype.is_floating_point:
        return
    rounding, count = torch.finfo(dtype).eps / 2, "many" if layers is None else f"{layers:,}"
    name = str(dtype).removeprefix("torch.")
    if step < rounding:
        text = (
            f"A step of {step:g} is lost in {name}: a state of size one changes by less than its rounding, "
            f"{rounding:.1g}, so the flow is the identity. Use a larger step, or float64."
        )
    elif dtype.itemsize < 4:
        text = (
            f"The weights are {name}. A flow adds {count} small steps to the state, and each is rounded to "
            f"{rounding:.1g} of it. Keep the flow in float32; under `torch.autocast` it stays there by itself."
        )
    else:
        return
    warnings.warn(text, UserWarning, stacklevel=4)


def check_separable(integrator: Integrator, hamiltonian: Hamiltonian) -> None:
    """Refuse an integrator that moves halves where the field is not separable."""
    _check_dissipation(integrator, hamiltonian)
    if not integrator.separable_only or hamiltonian.separable:
        return
    entries.half(hamiltonian.features)  # an odd size has an answer of its own
    _check_halves(integrator, hamiltonian)
    raise shelled(
        ValueError(
            f"`{type(integrator).__name__}` moves one half of the state by the other, so neither half may drive "
            f"itself; `{hamiltonian.structure!r}` with `{hamiltonian.interconnection!r}` lets it. "
            f"Use `BlockDiagonal()` with a block J (that is `h2`) or `ForwardEuler()` (that is `h1`)."
        ),
        "The integrator moves one half of the state by the other, so neither half may drive itself; this model with "
        "this J lets it. Use `model=h2` with `interconnection=canonical`, or `integrator=forward_euler`.",
    )


def _check_halves(integrator: Integrator, hamiltonian: Hamiltonian) -> None:
    """Refuse an energy of one's own, which is given in Python alone, that does not come apart."""
    if hamiltonian.own is not None and hamiltonian.off_diagonal and not hamiltonian.own.halves():
        raise ValueError(
            f"`{type(integrator).__name__}` moves one half of the state by the other, and the energy "
            f"`{type(hamiltonian.own).__name__}` does not say that it is T(p) + V(q). Use `Separable(T, V)`, or a step "
            f"that moves the whole state, such as `ImplicitMidpoint()`."
        )


def _check_dissipation(integrator: Integrator, hamiltonian: Hamiltonian) -> None:
    """Refuse a J - R, which is chosen in Python alone, to what moves halves."""
    if integrator.damping and not hamiltonian.interconnection.skew:
        raise ValueError(
            f"The two dampings are never mixed: `{integrator!r}` damps the momenta, and "
            f"`{hamiltonian.interconnection!r}` is a J - R. Leave one of them out."
        )
    dissipates = not hamiltonian.interconnection.skew and hamiltonian.interconnection.of_state is None
    if integrator.separable_only and not hamiltonian.separable and dissipates:
        raise ValueError(
            f"`{type(integrator).__name__}` moves one half of the state by the other, so neither half may drive "
            f"itself; `{hamiltonian.interconnection!r}` lets it, for R acts on each half. Use `ForwardEuler()`, "
            f"`ImplicitMidpoint()` or `DiscreteGradient()`; or a skew J with the damping of the momenta, "
            f"`SymplecticEuler(damping=0.1)`."
        )


def check_damping(flow: Flow, integrator: Integrator, memory: str | None) -> None:
    """Refuse a learned damping that came later than the numbers of the flow, and a way back that undoes too much."""
    made = "damping_weight" in flow._parameters
    if made and integrator.learn_damping != (flow.damping_weight is not None):
        raise ValueError(
            "Whether damping is learned is fixed when a flow is made, for its parameter is made with it. Make another "
            f"flow with integrator={integrator!r}."
        )
    if made and memory == "reverse" and integrator.damping and not flow.recurrent:
        check_way_back(integrator.damping, integrator.learn_damping, flow.horizon, flow.weight.dtype)


def check_directed(integrator: Integrator, hamiltonian: Hamiltonian, space: Space) -> None:
    """Refuse edges known to go one way where K = −Kᵀ is needed; steps that move halves need none."""
    if hamiltonian.interconnection.is_inverse and not integrator.separable_only and space.directed():
        raise ValueError(
            "`Inverse` needs K = -Kᵀ, and on a graph Kᵀ walks the edges backwards: every edge needs its reverse, of "
            'one weight (A = Aᵀ), and these edges are directed. Add the reverse edges (normalization="symmetric" keeps '
            'A = Aᵀ, "mean" does not), or use `h1`, `h2`, `ms1` or `ms3`, which take any graph.'
        )


def check_loaded(J: Tensor | None, slots: Mapping[str, Slot], interconnection: Interconnection) -> None:
    """Refuse a loaded J that is not the flow's own: separability and the kernels follow from the J it was made with."""
    expected = slots["interconnection_matrix"].start if "interconnection_matrix" in slots else None
    if J is None or not isinstance(expected, Tensor) or J.is_meta:
        return
    # The bar lets pass the rounding of a file in lower precision.
    if not torch.allclose(J.detach().to("cpu", torch.float64), expected, rtol=0.01, atol=0.0):
        raise ValueError(
            f"The loaded J differs from that of this flow, `{interconnection!r}`. "
            f"Make the flow with the J of the file: `Fixed(state['interconnection_matrix'])`."
        )


def check_layer(layer: int, layers: int) -> None:
    """Refuse a layer that the flow does not have."""
    layer = whole("layer", layer)
    if layers == 0:
        raise IndexError(f"The flow has no layers; got layer {layer}.")
    if not -layers <= layer < layers:
        raise IndexError(f"The flow has layers 0 to {layers - 1}; got {layer}.")


def layer_range(which: int | slice, layers: int) -> tuple[int, int]:
    """The first of the chosen layers and the one after the last."""
    if isinstance(which, slice):
        start, stop, stride = which.indices(layers)
        if stride != 1:
            raise ValueError(f"Only neighbouring layers make a flow; got a stride of {stride}. Use flow[a:b].")
        return start, max(start, stop)
    check_layer(which, layers)
    return which % layers, which % layers + 1
