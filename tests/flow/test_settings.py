"""Every refusal of a flow says what was given, why it cannot be, and what to do."""

from __future__ import annotations

import pytest
import torch

import hdnn
from families import F64, preset, random
from hdnn.flow import Flow
from hdnn.integrators import ForwardEuler, RungeKutta4, StormerVerlet, SymplecticEuler
from hdnn.interconnections import Fixed, Learned, canonical, upper_ones
from hdnn.kernels import native
from hdnn.structures import BlockDiagonal, Dense, Masked, OffDiagonal, Skew


def flow_of(**changes: object) -> Flow:
    settings = {
        "features": 4,
        "layers": 2,
        "step": 0.1,
        "structure": Dense(),
        "interconnection": Fixed(canonical(4)),
        "integrator": ForwardEuler(),
    }
    return Flow(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"features": 0}, "`features` is the size of the state, so it must be at least 1; got 0"),
        ({"layers": -1}, r"`layers` must be 0 \(the identity\) or more; got -1"),
        ({"kernel_size": 2}, r"`kernel_size` must be odd.*Use 3, or `Vectors\(\)`, kernel_size=None"),
        ({"kernel_size": 0}, "`kernel_size` must be odd"),
        ({"step": None}, r"Give exactly one of `step` \(h\) and `horizon`.*got neither"),
        ({"horizon": 1.0}, "Give exactly one of .*got step=0.1 and horizon=1.0"),
        ({"step": 0.0}, "`step` must be a positive, finite time; got 0.0"),
        ({"step": -0.1}, "`step` must be a positive"),
        ({"step": float("nan")}, "`step` must be a positive"),
        ({"step": None, "horizon": float("inf")}, "`horizon` must be a positive, finite time; got inf"),
        ({"init_std": -1.0}, "`init_std` is a standard deviation"),
        ({"init_std": float("nan")}, "`init_std` is a standard deviation"),
        ({"dtype": torch.int64}, "`dtype` must be a floating-point type; got torch.int64"),
        ({"dtype": torch.complex64}, "`dtype` must be a floating-point type"),
        ({"backend": "cuda"}, "`backend` must be .*got 'cuda'"),
        ({"memory": "none"}, '`memory` must be "store", "recompute" or "reverse"; got \'none\''),
        (
            {"memory": "reverse"},
            'memory="reverse" walks back from the output, and `ForwardEuler` does not state that its `inverse` undoes '
            r'a step \(`reversible = True`\). Use memory="recompute", or an integrator that does, such as `Symplectic',
        ),
        ({"memory": "reverse", "integrator": RungeKutta4()}, "`RungeKutta4` does not state that its `inverse` undoes"),
        (
            {"integrator": SymplecticEuler()},
            r"`SymplecticEuler` moves one half of the state by the other, so neither half may drive itself; "
            r"`Dense\(width=None\)` with `Fixed\(canonical\)` lets it. "
            r"Use `BlockDiagonal\(\)`.*`h2`.*`ForwardEuler\(\)`",
        ),
        ({"integrator": StormerVerlet(), "structure": Dense()}, "`StormerVerlet` moves one half"),
        (
            {"integrator": SymplecticEuler(), "structure": OffDiagonal(), "interconnection": Fixed(upper_ones(4))},
            "neither half may drive itself",
        ),
        (
            {"integrator": SymplecticEuler(), "structure": BlockDiagonal(), "interconnection": Learned(canonical(4))},
            "neither half may drive itself",
        ),
        (
            {"features": 5, "integrator": SymplecticEuler(), "interconnection": Fixed(upper_ones(5))},
            r"`features` must be even to split the state into \(p, q\); got 5. Lift the input to 6",
        ),
        ({"features": 6}, "J is 4 x 4, but the flow has 6 features"),
        ({"interconnection": Fixed(canonical(4).expand(3, 4, 4))}, "for each of 3 layers, but the flow has 2"),
        ({"structure": Masked(Dense(), torch.ones(3, 3))}, r"must have the shape of K, \(4, 4\)"),
        ({"structure": Masked(Skew(), torch.ones(4, 4).triu())}, "must fit the symmetry"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_flow_refuses(changes: dict[str, object], phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        flow_of(**changes)


@pytest.mark.skipif(not native.available(), reason="the compiled extension is missing")
def test_native_stores_nothing() -> None:
    with pytest.raises(ValueError, match=r'keeps every layer.*Leave `memory` out, or use backend="eager"'):
        flow_of(memory="store", backend="native")
    for memory in (None, "recompute"):
        assert flow_of(memory=memory, backend="native").memory == memory


@pytest.mark.parametrize("shape", [(128, 3), (), (4, 5)])
@pytest.mark.parametrize("method", ["forward", "trajectory", "inverse", "energy"])
def test_states_of_the_wrong_shape(method: str, shape: tuple[int, ...]) -> None:
    expected = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"Expected a state of shape \(..., 4\); got {expected}"):
        getattr(preset("h2"), method)(torch.zeros(shape, dtype=F64))


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4, 5), (1, 1, 4, 4, 4)])
def test_images_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(B, 4, H, W\); got"):
        preset("h2", kernel_size=3)(torch.zeros(shape, dtype=F64))


def test_layers_out_of_range() -> None:
    flow = preset("h2")
    for ask in (lambda: flow[3], lambda: flow[-4], lambda: flow.energy(random(4), 3)):
        with pytest.raises(IndexError, match="The flow has layers 0 to 2; got"):
            ask()
    with pytest.raises(ValueError, match="Only neighbouring layers make a flow; got a stride of 2"):
        _ = flow[::2]


def test_texts_are_no_truths() -> None:
    with pytest.raises(TypeError, match="`learn_unit_weights` must be True or False; got 'no'"):
        hdnn.h2(4, 2, step=0.1, unit_weights=2.0, learn_unit_weights="no")  # type: ignore[arg-type]
