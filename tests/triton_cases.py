"""What the tests of the Triton backend share: when they can run, the comparison, and launches that are written down."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import families
from families import DEVICE
from hdnn.flow import Flow
from hdnn.kernels import launches, triton
from hdnn.kernels.backend import Layers
from native_cases import F32, error, oracle, results, rounding, twin

Launch = tuple[str, dict[str, Any]]

# Together with the mark of each file: numbers that overflow on purpose, which NumPy reports.
QUIET = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
RUNS = pytest.mark.skipif(
    not (triton.installed and (triton.interpreted or DEVICE != "cpu")),
    reason="needs Triton's interpreter, make test-triton (pip install --no-deps triton, TRITON_INTERPRET=1), or "
    "a CUDA device, pytest --device cuda",
)


def _hurry() -> None:
    """Take out of Triton's interpreter what has no effect: more than half of its time.

    A launch patches the language that programs are written in, and every call of one program by another once more;
    sums of integers are made again in 64 bits to see whether they overflow, which only a debugger asks.
    """
    interpreter, patched = importlib.import_module("triton.runtime.interpreter"), {"hdnn.kernels"}

    def called(self: Any, *given: Any, **named: Any) -> Any:
        package = self.fn.__module__.rpartition(".")[0]
        if package not in patched:
            patched.add(package)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*given, **named)

    interpreter.InterpretedFunction.__call__ = called
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)


if triton.installed and triton.interpreted:
    _hurry()


def random(*shape: int, seed: int = 0) -> Tensor:
    """N(0, 1) numbers in float64, where flows are."""
    return families.random(*shape, seed=seed).to(DEVICE)


@contextmanager
def wide_tiles(features: int) -> Iterator[None]:
    """Many units at a time where there are many, for the interpreter's sake: its time is that of operations."""
    shape_of = launches.shape_of
    if features > 16 and triton.interpreted:
        launches.shape_of = lambda *x: shape_of(*x)._replace(U=64)
    try:
        yield
    finally:
        launches.shape_of = shape_of


def off(flow: Flow, y: Tensor, seed: int = 50) -> tuple[float, float, float]:
    """Errors of output and gradients against the oracle in float64, ours of both precisions and eager float32's."""
    g = random(*y.shape, seed=seed)
    fast, single = twin(flow, "triton"), twin(flow).to(F32)
    exact = copy.deepcopy(single).double()
    small, cotangent = y.to(F32), g.to(F32)
    double = error(results(fast, fast, y, g), results(lambda x: oracle(flow, x), flow, y, g))
    coarse = results(lambda x: oracle(exact, x), exact, small.double(), cotangent.double())
    eager = error(results(single, single, small, cotangent), coarse)
    single.backend = "triton"
    mine = error(results(single, single, small, cotangent), coarse)
    if mine > max(1e-5, 3 * eager):  # eager may have been lucky with these very numbers
        eager = max(eager, rounding(twin(single), small, cotangent))
    return double, mine, eager


def compare(flow: Flow, y: Tensor, seed: int = 50) -> None:
    """Programs are the oracle in both precisions."""
    double, single, eager = off(flow, y, seed)
    assert double <= 1e-12, double
    assert single <= max(1e-5, 3 * eager), f"float32: {single}, eager {eager}"


def launched(flow: Flow, batch: int, dtype: torch.dtype = F32, y: Tensor | None = None) -> list[Launch]:
    """What a forward and a backward run would launch."""
    found: list[Launch] = []

    def record(name: str, count: int, given: dict[str, Any], **sizes: int) -> None:
        found.append((name, {**given, **sizes}))

    actual, launches._launch = launches._launch, record
    try:
        flow = flow.to(dtype)
        y = torch.zeros(batch, flow.features, dtype=dtype, device=flow.weight.device) if y is None else y
        J, K, g = flow._J(), flow.K.detach(), flow.damping_weight
        W = flow.interconnection.drive(J, K, flow.space).detach() if flow.plan.drive == "matrix" else None
        bias = flow.bias.detach() if g is None else torch.cat([flow.bias.flatten(), g]).detach()
        launches.forward(flow.plan, y, Layers(K, bias, W))
        launches.backward(flow.plan, y, y, Layers(K, bias, W), True)
    finally:
        launches._launch = actual
    return found
