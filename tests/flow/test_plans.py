"""Which calls the native backend takes; what a plan holds is tested in tests/kernels/test_plan.py."""

from __future__ import annotations

import pytest

from families import preset, state, tight
from hdnn.flow.plans import served
from hdnn.kernels import native

compiled = pytest.mark.skipif(not native.available(), reason="the compiled extension is missing")


@compiled
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_native_serves_what_fits(backend: str) -> None:
    flow = preset("h2")
    y = state(flow, 2)
    for memory in (None, "recompute", "reverse"):
        assert served(flow.plan, backend, memory, y, flow.weight) is flow.plan
    assert served(flow.plan, "eager", None, y, flow.weight) is None
    assert served(preset("h2", kernel_size=3).plan, "auto", None, y, flow.weight) is None


@compiled
def test_auto_falls_back_and_native_does_not() -> None:
    flow = preset("h2")
    y = state(flow, 2).float()
    assert served(flow.plan, "auto", None, y, flow.weight) is None
    with pytest.raises(ValueError, match=r"float32 state on cpu and torch\.float64 weights"):
        served(flow.plan, "native", None, y, flow.weight)


@compiled
def test_what_is_to_be_stored_is_not_computed_again() -> None:
    """The eager path shows by the name of what autograd recorded last."""
    flow, plain = preset("h2", memory="store"), preset("h2")
    y = state(flow, 2).requires_grad_()
    out = plain(y)
    tight(out, flow(y))
    assert "Direct" in type(out.grad_fn).__name__
    assert "Direct" not in type(flow(y).grad_fn).__name__
