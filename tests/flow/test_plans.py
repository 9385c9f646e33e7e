"""Which backend runs a call; what a plan holds is tested in tests/kernels/test_plan.py."""

from __future__ import annotations

import pytest
from torch import Tensor

from families import preset, state, tight
from hdnn.flow import Flow
from hdnn.kernels import native
from hdnn.kernels.choice import chosen

compiled = pytest.mark.skipif(not native.available(), reason="the compiled extension is missing")


def runs(flow: Flow, backend: str, y: Tensor, memory: str | None = None) -> str:
    """The name of what runs a call."""
    return chosen(backend, flow.plan, y, flow.weight, memory == "store").name


@compiled
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_native_serves_what_fits(backend: str) -> None:
    flow = preset("h2")
    y = state(flow, 2)
    for memory in (None, "recompute", "reverse"):
        assert runs(flow, backend, y, memory) == "native"
    assert runs(flow, "auto", y, "store") == "eager"
    assert runs(flow, "eager", y) == "eager"
    assert runs(preset("h2", kernel_size=3), "auto", y) == "eager"


@compiled
def test_auto_falls_back_and_native_does_not() -> None:
    flow = preset("h2")
    y = state(flow, 2).float()
    assert runs(flow, "auto", y) == "eager"
    with pytest.raises(ValueError, match=r"float32 state on cpu and torch\.float64 weights"):
        runs(flow, "native", y)


@compiled
def test_what_is_to_be_stored_is_not_computed_again() -> None:
    """The eager path shows by the name of what autograd recorded last."""
    flow, plain = preset("h2", memory="store"), preset("h2")
    y = state(flow, 2).requires_grad_()
    out = plain(y)
    tight(out, flow(y))
    assert "Direct" in type(out.grad_fn).__name__
    assert "Direct" not in type(flow(y).grad_fn).__name__
