"""The plain arguments of a flow and of its calls: checked, and completed where they were left open."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hdnn import entries
from hdnn.doors import shelled
from hdnn.hamiltonian import Hamiltonian
from hdnn.integrators import Integrator
from hdnn.interconnections import Interconnection
from hdnn.kernels import native
from hdnn.kernels.plan import Plan


def check_sizes(features: int, layers: int, kernel_size: int | None) -> None:
    """Refuse sizes that make no flow."""
    if features < 1:
        raise ValueError(f"`features` is the size of the state, so it must be at least 1; got {features}.")
    if layers < 0:
        raise ValueError(f"`layers` must be 0 (the identity) or more; got {layers}.")
    if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
        raise ValueError(
            f"`kernel_size` must be odd, so that the convolution and its adjoint keep the size of the image; got "
            f"{kernel_size}. Use {max(1, kernel_size + 1)}, or None for vectors."
        )


def check_backend(backend: str, plan: Plan | None) -> None:
    """Refuse a named backend that is not there or cannot run this flow; only "auto" may fall back."""
    if backend == "triton":
        raise ValueError('backend="triton" is not in this version. Use backend="auto".')
    if backend not in ("auto", "eager", "native"):
        raise ValueError(f'`backend` must be "auto", "eager" or "native"; got {backend!r}.')
    if backend == "native" and not native.available():
        raise ValueError(
            'backend="native" needs the compiled extension, which this install lacks. Reinstall with a C++17 compiler '
            '(pip install --no-cache-dir --force-reinstall), or use backend="eager".'
        )
    if backend == "native" and plan is None:
        raise ValueError(
            'backend="native" runs ForwardEuler and SymplecticEuler with the built-in activations and structures, on '
            'vectors and on images with kernel_size=1; this flow is another. Use backend="auto" or "eager".'
        )


def check_memory(memory: str | None, backend: str, integrator: Integrator) -> None:
    """Refuse what the backend or the integrator cannot do."""
    if memory not in (None, "store", "recompute", "reverse"):
        raise ValueError(f'`memory` must be "store", "recompute" or "reverse"; got {memory!r}.')
    if memory == "store" and backend == "native":
        raise ValueError(
            'memory="store" keeps every layer for the backward pass; backend="native" never does, it computes them '
            'again in cache. Leave `memory` out, or use backend="eager".'
        )
    if memory == "reverse" and not integrator.reversible:
        raise ValueError(
            f'memory="reverse" walks back from the output, and a step of `{type(integrator).__name__}` has no explicit '
            f'inverse. Use memory="recompute", or `SymplecticEuler` or `StormerVerlet` (`h2`, `ms1`, `ms3`).'
        )


def step_size(layers: int, step: float | None, horizon: float | None) -> float:
    """The step h from exactly one of h and T."""
    if (step is None) == (horizon is None):
        given = "neither" if step is None else f"step={step} and horizon={horizon}"
        raise ValueError(f"Give exactly one of `step` (h) and `horizon` (T = layers · h); got {given}.")
    length = step if step is not None else horizon
    if length is None or not (math.isfinite(length) and length > 0):
        name = "step" if horizon is None else "horizon"
        raise ValueError(f"`{name}` must be a positive, finite time; got {length}.")
    return float(length) / (layers or 1) if step is None else float(length)


def floating_point(dtype: torch.dtype | None) -> torch.dtype:
    """What is given, or PyTorch's default."""
    dtype = dtype or torch.get_default_dtype()
    if not dtype.is_floating_point:
        raise ValueError(f"`dtype` must be a floating-point type; got {dtype}. Use torch.float32 or float64.")
    return dtype


def standard_deviation(features: int, init_std: float | None) -> float:
    """Of the initial weights: what is given, or 1/√n."""
    if init_std is None:
        return 1 / math.sqrt(features)
    if not (math.isfinite(init_std) and init_std >= 0):
        raise ValueError(f"`init_std` is a standard deviation, so it must be 0 or more; got {init_std}.")
    return float(init_std)


def check_separable(integrator: Integrator, hamiltonian: Hamiltonian) -> None:
    """Refuse an integrator that moves halves where the field is not separable."""
    if not integrator.separable_only or hamiltonian.separable:
        return
    entries.half(hamiltonian.features)  # an odd size has an answer of its own
    raise shelled(
        ValueError(
            f"`{type(integrator).__name__}` moves one half of the state by the other, so neither half may drive "
            f"itself; `{hamiltonian.structure!r}` with `{hamiltonian.interconnection!r}` lets it. "
            f"Use `BlockDiagonal()` with a block J (that is `h2`) or `ForwardEuler()` (that is `h1`)."
        ),
        "This model moves one half of the state by the other, so neither half may drive itself; this J lets it. Use "
        "`interconnection=canonical`, or `model=h1`.",
    )


def check_loaded(J: Tensor | None, expected: Tensor | None, interconnection: Interconnection) -> None:
    """Refuse a loaded J that is not the flow's own: separability and the kernels follow from the J it was made with."""
    if J is None or expected is None or J.is_meta:
        return
    # The bar lets pass the rounding of a file in lower precision.
    if not torch.allclose(J.detach().to("cpu", torch.float64), expected, rtol=0.01, atol=0.0):
        raise ValueError(
            f"The loaded J differs from that of this flow, `{interconnection!r}`. "
            f"Make the flow with the J of the file: `Fixed(state['interconnection_matrix'])`."
        )


def check_state(y: Tensor, features: int, kernel_size: int | None) -> None:
    """Refuse a state of another shape."""
    if kernel_size is None:
        if y.dim() < 1 or y.shape[-1] != features:
            raise ValueError(f"Expected a state of shape (..., {features}); got {tuple(y.shape)}.")
    elif y.dim() not in (3, 4) or y.shape[-3] != features:
        raise ValueError(f"Expected images of shape (B, {features}, H, W); got {tuple(y.shape)}.")


def check_layer(layer: int, layers: int) -> None:
    """Refuse a layer that the flow does not have."""
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
