"""First mistakes: arguments of the wrong kind, states that do not fit, attributes set later; each in one sentence."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

import hdnn
from families import F64, PRESETS, preset, state, tight
from hdnn.activations import ACTIVATIONS
from hdnn.flow import Flow
from hdnn.interconnections import INTERCONNECTIONS

J = hdnn.upper_ones(4)


@pytest.mark.parametrize("name", PRESETS)
def test_activations_by_name_and_by_class(name: str) -> None:
    for word, activation in ACTIVATIONS.items():
        assert PRESETS[name](4, 2, step=0.1, activation=word).activation is activation
        assert PRESETS[name](4, 2, step=0.1, activation=type(activation)).activation == activation


def test_J_by_name_by_class_and_as_a_matrix() -> None:
    for word, matrix in INTERCONNECTIONS.items():
        torch.testing.assert_close(hdnn.h1(4, 2, step=0.1, interconnection=word).J, matrix(4))
    assert repr(hdnn.h1(4, 2, step=0.1, interconnection=J).interconnection) == "Fixed(upper_ones)"
    flow = Flow(
        4, 2, step=0.1, structure=hdnn.Skew, interconnection=hdnn.Inverse, integrator=hdnn.ForwardEuler, dtype=F64
    )
    assert repr(flow) == repr(PRESETS["ms2"](4, 2, step=0.1))
    assert hdnn.h1(np.int64(4), np.int32(2), step=np.float32(0.5)).step == 0.5


@pytest.mark.parametrize(
    ("change", "error", "phrase"),
    [
        ({"features": 4.0}, TypeError, "`features` must be a whole number; got 4.0, a float. Write 4."),
        ({"features": "4"}, TypeError, "`features` must be a whole number; got '4', a str."),
        ({"layers": 4.0}, TypeError, "`layers` must be a whole number; got 4.0, a float. Write 4."),
        ({"layers": True}, TypeError, "`layers` must be a whole number; got True, a bool."),
        ({"step": "0.1"}, TypeError, "`step` must be a number; got '0.1', a str."),
        ({"step": torch.tensor(0.1)}, TypeError, "`step` must be a number; got tensor"),
        ({"step": None, "horizon": [1.0]}, TypeError, "`horizon` must be a number; got [1.0], a list."),
        ({"kernel_size": 3.0}, TypeError, "`kernel_size` must be a whole number; got 3.0, a float. Write 3."),
        ({"width": "8"}, TypeError, "`width` must be a whole number; got '8', a str."),
        ({"unit_weights": "x"}, TypeError, "`unit_weights` must be a number, or a tensor (m,)"),
        ({"unit_weights": True}, TypeError, "got True, a bool."),
        ({"unit_weights": torch.tensor(True)}, TypeError, "got truths."),
        ({"shared": "no"}, TypeError, "`shared` must be True or False; got 'no', a str."),
        ({"init_std": "1"}, TypeError, "`init_std` must be a number; got '1', a str."),
        ({"dtype": "float64"}, TypeError, "`dtype` must be a dtype of PyTorch; got 'float64', a str."),
        ({"dtype": np.float32}, TypeError, "`dtype` must be a dtype of PyTorch"),
        ({"activation": "rellu"}, ValueError, "There is no activation 'rellu'. Did you mean 'relu'?"),
        ({"activation": torch.relu}, TypeError, "H(y) needs the potential of σ."),
        ({"activation": torch.nn.ReLU()}, TypeError, "`activation` must be an `Activation` of hdnn; got ReLU()"),
        ({"interconnection": "canonica"}, ValueError, "Did you mean 'canonical'?"),
        ({"interconnection": J.numpy()}, TypeError, 'got a ndarray. Use "canonical"'),
        ({"interconnection": J.tolist()}, TypeError, "`interconnection` must be an `Interconnection` of hdnn"),
        ({"interconnection": hdnn.Fixed}, TypeError, "the class `Fixed`, which needs arguments."),
        ({"backend": "nativ"}, ValueError, "`backend` must be"),
    ],
)
def test_arguments_of_the_wrong_kind(change: dict[str, object], error: type[Exception], phrase: str) -> None:
    with pytest.raises(error) as found:
        hdnn.h1(**{"features": 4, "layers": 2, "step": 0.1, **change})  # type: ignore[arg-type]
    assert phrase in str(found.value)


@pytest.mark.parametrize("factor", ["structure", "integrator"])
@pytest.mark.parametrize("given", [b"dense", None, 3, hdnn.Flow])
def test_factors_of_the_wrong_kind(factor: str, given: object) -> None:
    factors = {"structure": hdnn.Dense(), "interconnection": "canonical", "integrator": hdnn.ForwardEuler()}
    with pytest.raises(TypeError, match=rf"`{factor}` must be an? `\w+` of hdnn; got .*Use `"):
        Flow(4, 2, step=0.1, **{**factors, factor: given})  # type: ignore[arg-type]


READS: dict[str, Callable[[Flow, torch.Tensor], object]] = {
    "forward": lambda flow, y: flow(y),
    "trajectory": lambda flow, y: flow.trajectory(y),
    "inverse": lambda flow, y: flow.inverse(y),
    "energy": lambda flow, y: flow.energy(y),
}


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("name", READS)
def test_states_of_the_wrong_kind(name: str, backend: str) -> None:
    flow, read = hdnn.h2(4, 2, step=0.1, backend=backend), READS[name]  # type: ignore[arg-type]
    for given in (np.zeros((2, 4)), [[0.0] * 4], None, "y"):
        with pytest.raises(TypeError, match=r"A flow maps tensors to tensors; got .*torch.as_tensor"):
            read(flow, given)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"holds float64 numbers and the weights of the flow float32. Convert the state"
    ):
        read(flow, torch.zeros(2, 4, dtype=F64))
    with pytest.raises(TypeError, match=r"holds int64 numbers .* Convert the state with y.to\(torch.float32\).$"):
        read(flow, torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"The state is on meta and the flow on cpu\. Move one of them"):
        read(flow, torch.zeros(2, 4, device="meta"))


@pytest.mark.parametrize("name", READS)
def test_states_are_cast_alike_under_autocast(name: str) -> None:
    flow, y = hdnn.h2(4, 2, step=0.1), torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = READS[name](flow, y)
        assert READS[name](flow, y.bfloat16()).dtype is torch.float32  # type: ignore[attr-defined]
    torch.testing.assert_close(found, READS[name](flow, y))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", PRESETS)
def test_jagged_batches(name: str) -> None:
    flow = preset(name)
    rows = [state(flow, 2), state(flow, 5, seed=6)]
    y = torch.nested.nested_tensor(rows, layout=torch.jagged).requires_grad_()
    out = flow(y)
    for found, row in zip(out.unbind(), rows, strict=True):
        tight(found, flow(row))
    out.values().sum().backward()
    assert y.grad is not None
    for read in ("trajectory", "inverse", "energy"):
        with pytest.raises(ValueError, match="takes no nested tensors; give it their rows"):
            READS[read](flow, y)
    with pytest.raises(ValueError, match=r"give layout=torch.jagged"):
        flow(torch.nested.nested_tensor(rows))
    with pytest.raises(ValueError, match="states of one size"):
        preset(name, kernel_size=1)(y)


@pytest.mark.parametrize(
    ("name", "value", "error", "phrase"),
    [
        ("memory", "revers", ValueError, '`memory` must be "store"'),
        ("backend", "nativ", ValueError, '`backend` must be "auto"'),
        ("backend", None, ValueError, '`backend` must be "auto"'),
        ("integrator", "rk4", ValueError, "There is no integrator 'rk4'"),
        (
            "integrator",
            4,
            TypeError,
            "`integrator` must be an `Integrator` of hdnn; got 4, an int. Use `ForwardEuler()`",
        ),
        ("activation", "rel", ValueError, "There is no activation 'rel'"),
        ("init_std", -1.0, ValueError, "`init_std` is a standard deviation"),
        ("features", 6, AttributeError, "A flow keeps its `features` for life"),
        ("layers", 3, AttributeError, "Make another flow with layers=3"),
        ("step", 0.2, AttributeError, "A flow keeps its `step` for life"),
        ("shared", True, AttributeError, "A flow keeps its `shared` for life"),
        ("structure", hdnn.Dense(), AttributeError, "A flow keeps its `structure` for life"),
        ("kernel_size", 3, AttributeError, "A flow keeps its `kernel_size` for life"),
    ],
)
def test_attributes_are_checked_when_they_are_set(
    name: str, value: object, error: type[Exception], phrase: str
) -> None:
    flow = preset("h2")
    before, y = repr(flow), state(flow, 2)
    expected = flow(y)
    with pytest.raises(error) as found:
        setattr(flow, name, value)
    assert phrase in str(found.value)
    assert repr(flow) == before
    assert torch.equal(flow(y), expected)


def test_attributes_that_are_set_hold() -> None:
    flow = preset("h2")
    y = state(flow, 2)
    flow.activation = "relu"  # type: ignore[assignment]
    flow.integrator = hdnn.StormerVerlet()
    flow.memory = "reverse"
    other = preset("h2", activation="relu", memory="reverse")
    other.integrator = hdnn.StormerVerlet()
    assert flow.plan == other.plan
    tight(flow(y), other(y))
    assert repr(flow) == repr(other) == repr(pickle.loads(pickle.dumps(flow)))
    dense = preset("h1")
    with pytest.raises(ValueError, match="moves one half of the state by the other"):
        dense.integrator = hdnn.SymplecticEuler()
    flow.integrator = hdnn.SymplecticEuler()
    with pytest.raises(ValueError, match="does not state that its `inverse` undoes"):
        flow.integrator = hdnn.RungeKutta4()
    flow.init_std = 0.0
    flow.reset_parameters()
    assert not flow.weight.any()


@pytest.mark.parametrize("make", [hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3])
def test_what_no_memory_holds(make: Callable[..., Flow]) -> None:
    with pytest.raises(MemoryError, match=r"A flow of 1,000,000 features and 4 layers wants 8 TB of memory, and this"):
        make(10**6, 4, step=0.1)
    with pytest.raises(MemoryError, match=r"A flow of 4 features and 1,000,000,000,000 layers wants"):
        make(4, 10**12, step=0.1)
    for matrix in (hdnn.canonical, hdnn.upper_ones):
        with pytest.raises(MemoryError, match="J of 1,000,000 features wants 8 TB"):
            matrix(10**6)
    assert make(4, 10**6, step=0.1, device="meta").weight.is_meta


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_warned_of(dtype: torch.dtype) -> None:
    with pytest.warns(UserWarning, match=r"A flow adds 3 small steps to the state, and each is rounded"):
        flow = preset("h2", dtype=dtype)
    assert flow[1:].weight.dtype is dtype  # and no other warning, which would be an error
    assert flow.to("cpu") is flow
    with pytest.warns(UserWarning, match=r"The weights are \w+float|float16"):
        torch.nn.Sequential(preset("h2")).to(dtype)
    assert preset("h2", layers=0, dtype=dtype).layers == 0


def test_steps_that_are_lost_are_warned_of() -> None:
    for step, dtype in ((1e-9, torch.float32), (1e-17, F64), (1e-3, torch.bfloat16)):
        with pytest.warns(UserWarning, match=r"is lost in .* the flow is the identity"):
            flow = hdnn.h2(4, 2, step=step, dtype=dtype)
        y = torch.ones(4, dtype=dtype)
        assert torch.equal(flow(y), y)
    assert hdnn.h2(4, 2, step=1e-6).step == 1e-6
