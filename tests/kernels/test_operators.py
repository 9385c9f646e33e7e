"""The registered operators, which anyone may call: what they refuse, and what PyTorch's tools see of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from families import preset, random, state
from hdnn.flow import Flow
from hdnn.kernels import calls, native
from hdnn.kernels.backend import Layers
from hdnn.kernels.plan import plan_of
from native_cases import F32, TRANSFORMED, twin

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

Inputs = dict[str, Any]
NO_LIES = ("flows", "backend", "step", "negative_slope", "images")
_WORDS = [*calls._METHODS, *calls._STRUCTURES, *calls._DRIVES, *calls._ACTIVATIONS]


def inputs(kind: str, batch: int = 5) -> Inputs:
    """What a flow of a kind gives to the kernels."""
    flow = TRANSFORMED[kind](backend="native")
    y = state(flow, batch)
    weight = flow.K if calls.full_weights(flow.plan) else flow.weight
    W = flow.interconnection.drive(flow._J(), flow.K, flow.space) if flow.plan.drive == "matrix" else None
    g = flow.damping_weight
    bias = flow.bias if g is None else torch.cat([flow.bias.flatten(), g])
    tensors = {"y": y, "weight": weight.detach(), "bias": bias.detach(), "W": W if W is None else W.detach()}
    return {**tensors, "flows": 0, "backend": "native", **asdict(flow.plan)}


def run(given: Inputs, **changes: Any) -> Tensor:
    result: Tensor = torch.ops.hdnn.flow_run(**{**given, **changes})
    return result


def pull(given: Inputs, **changes: Any) -> Any:
    g = changes.pop("g", torch.ones_like(given["y"]))
    return torch.ops.hdnn.flow_pull(g=g, weights_too=True, **{**given, **changes})


@pytest.mark.parametrize("call", [run, pull])
@pytest.mark.parametrize("kind", TRANSFORMED)
def test_plans_that_lie_are_refused(kind: str, call: Callable[..., Any]) -> None:
    """Whatever one value is changed to, the result has the shape of the state or the call is refused."""
    given = inputs(kind)
    call(given)
    refused = 0
    for name, value in lies(given):
        try:
            found = call(given, **{name: value})
        except ValueError as error:
            refused += any(
                words in str(error) for words in ("a plan that no flow has", "do not fit a flow", "is another")
            )
        else:
            states = (given["layers"] + 1,) if call is run and name == "states" else ()
            assert (found if call is run else found[0]).shape == (*states, *given["y"].shape)
    assert refused > 90
    for lacking in (given.keys() - {"hidden"}, given.keys() | {"colour"}):
        with pytest.raises(RuntimeError, match=r"missing value|Unknown keyword|expected at most"):
            call({name: given.get(name, 0) for name in lacking})


def lies(given: Inputs) -> Iterator[tuple[str, Any]]:
    """Every value of a plan changed to others, one at a time."""
    words = [*_WORDS, "", "p", "q", "neither"]
    numbers = (-1, 0, 1, 2, 3, 7, 2**31, 2**40, 2**62)
    for name, value in given.items():
        if isinstance(value, Tensor) or value is None or name in NO_LIES:
            continue
        pairs = [(a, b) for a in numbers for b in numbers]
        others: list[Any] = {
            str: words,
            bool: [True, False],
            int: [*numbers],
            float: [-1.0, 0.0, 0.5, 1e300, math.inf, math.nan],
            tuple: pairs,
        }[type(value)]
        for other in others:
            small = name != "layers" or other < 2**31 or not given["shared"]  # shared ones take their time
            if other != value and small:
                yield name, other


@pytest.mark.parametrize("call", [run, pull])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, F32])
def test_other_numbers_are_refused(dtype: torch.dtype, call: Callable[..., Any]) -> None:
    given = inputs("h2")
    tensors = {name: given[name].to(dtype) for name in ("y", "weight", "bias")}
    for changes in ({"y": tensors["y"]}, {"weight": tensors["weight"]}, tensors if dtype != F32 else {}):
        if changes:
            with pytest.raises(ValueError, match=r"are all of one kind|both float32 or both float64.*got"):
                call(given, **changes)


WRONG: dict[str, Inputs] = {
    "one axis": {"y": random(4)},
    "no axis": {"y": random(1)[0]},
    "three axes": {"y": random(5, 4, 2)},
    "other features": {"y": random(5, 3)},
    "flows without an axis": {"flows": 5},
    "flows of one size": {"flows": 2, "y": random(2, 5, 4)},
    "less than no flow": {"flows": -1},
    "too many flows": {"flows": 2**62, "y": random(1, 5, 4)},
    "images of two axes": {"images": True},
    "fewer weights": {"weight": random(2, 2, 2, 2)},
    "a W that is none": {"W": random(3, 4, 4)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_shapes_that_do_not_fit_are_refused(wrong: str) -> None:
    given = inputs("h2")
    for call in (run, pull):
        with pytest.raises(ValueError, match=r"States of this run have|The run is of|do not fit a flow"):
            call(given, **WRONG[wrong])
    for g in (random(4, 4), random(5, 4, 1), random(5)):
        with pytest.raises(ValueError, match="States of this run have"):
            pull(given, g=g)


def test_parameters_of_flows_lead_with_their_number() -> None:
    """As many numbers in another shape would be read past their end."""
    given = inputs("h2")
    two = {name: torch.stack([given[name]] * 2) for name in ("y", "weight", "bias")}
    assert torch.equal(run(given, flows=2, **two)[1], run(given))
    with pytest.raises(ValueError, match="every tensor leads with 2"):
        run(given, flows=2, **{**two, "weight": two["weight"][None]})


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match='No backend "abacus" is known here'):
        run(inputs("h2"), backend="abacus")


def test_other_devices_are_refused() -> None:
    given = inputs("h2")
    with pytest.raises(ValueError, match="on the CPU; got"):
        calls.forward(preset("h2", 4, 3).plan, given["y"], Layers(given["weight"].to("meta"), given["bias"], None))
    assert run(given, **{name: given[name].to("meta") for name in ("y", "weight", "bias")}).is_meta
    with pytest.raises(NotImplementedError):
        run(given, y=given["y"].to_sparse())


def flops(flow: Flow, batch: int, trained: bool) -> tuple[int, int]:
    """Of a run, and of a run with its gradients."""
    y = state(flow.requires_grad_(trained), batch).requires_grad_()
    with FlopCounterMode(display=False) as forward:
        out = flow(y)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("kind", TRANSFORMED)
def test_flops_are_those_of_the_eager_path(kind: str) -> None:
    """K Jᵀ, which does not grow with the batch, costs the kernels no product where J is canonical."""
    flow = TRANSFORMED[kind]()
    for trained in (True, False):
        mine, eager = ([flops(f, batch, trained) for batch in (5, 9)] for f in (flow, twin(flow)))
        assert mine[0][0] > 0
        for j in range(2):
            assert mine[1][j] - mine[0][j] == eager[1][j] - eager[0][j]
            assert mine[0][j] == eager[0][j] or flow.plan.drive == "canonical"


def test_a_flow_pays_nothing_for_what_operators_check(monkeypatch: pytest.MonkeyPatch) -> None:
    from hdnn.kernels import operators

    monkeypatch.setattr(operators, "check", lambda *_: pytest.fail("checked"))
    flow = preset("h2", backend="native")
    flow(state(flow, 5).requires_grad_()).sum().backward()


@pytest.mark.parametrize("record", ["Spec", "Arrays", "Training", "Trainees"])
def test_what_the_extension_reads_is_named(record: str) -> None:
    """Python itself refuses names that are missing or unknown, and numbers without a name."""
    kind = getattr(calls.extension, record)
    for given in ({}, {"method": 0}, {"colour": 1}):
        with pytest.raises(TypeError, match=r"__init__\(self, \*, "):
            kind(**given)
    with pytest.raises(TypeError):
        kind(*range(30))


def test_a_plan_is_read_once() -> None:
    first, again = (preset("h2", 4, 3).plan for _ in range(2))
    assert first is not again
    assert calls.bound(first, False) is calls.bound(again, False)


def test_values_of_a_plan_are_a_plan_again() -> None:
    for kind in TRANSFORMED:
        plan = TRANSFORMED[kind]().plan
        assert plan_of(*plan.values()) == plan
        assert plan_of(*(list(value) if isinstance(value, tuple) else value for value in plan.values())) == plan
