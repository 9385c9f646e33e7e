"""Native runs that inputs drive: a bias for every step and sample, and all states, forward and back."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

import hdnn
from families import ACTIVATIONS, F64, PRESETS, random
from hdnn.flow import Flow
from hdnn.kernels import calls, native
from hdnn.kernels.backend import Layers
from native_cases import SETS, instruction_set, threads

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")
D = 3


def made(name: str, features: int = 6, layers: int | None = None, **options: Any) -> Flow:
    """A driven flow, shared where it has no length of its own, named native so that nothing falls back."""
    settings = {"step": 0.2, "inputs": D, "shared": layers is None, "backend": "native", "dtype": F64, **options}
    flow = PRESETS[name](features, layers, **settings)
    with torch.no_grad():
        for number, parameter in enumerate(flow.parameters()):
            parameter.copy_(random(*parameter.shape, seed=number) / parameter.shape[-1] ** 0.5)
    return flow


def twins(flow: Flow) -> tuple[Flow, Flow]:
    other = copy.deepcopy(flow)
    other.backend = "eager"
    return flow, other


def found(flow: Flow, y: Tensor, u: Tensor, states: bool, seed: int = 9) -> list[Tensor]:
    """The result, and the gradients of the state, the inputs and all parameters."""
    y, u = y.clone().requires_grad_(), u.clone().requires_grad_()
    out = (flow.trajectory if states else flow)(y, inputs=u)
    of = [y, u, *flow.parameters()]
    return [out.detach(), *torch.autograd.grad(out, of, random(*out.shape, seed=seed).to(out))]


def compare(flow: Flow, y: Tensor, u: Tensor, bar: float = 1e-12) -> None:
    for states in (False, True):
        for mine, theirs in zip(*(found(each, y, u, states) for each in twins(flow)), strict=True):
            assert (mine - theirs).norm() <= bar * (1 + theirs.norm())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", PRESETS)
def test_driven_presets_are_the_eager_ones(name: str, activation: str) -> None:
    flow = made(name, activation=ACTIVATIONS[activation])
    compare(flow, random(5, 6, seed=1), random(7, 5, D, seed=2))
    compare(made(name, layers=4, activation=ACTIVATIONS[activation]), random(5, 6), random(4, 5, D, seed=2))


@pytest.mark.parametrize(
    ("features", "steps", "batch"), [(2, 1, 1), (4, 3, 63), (10, 70, 65), (16, 200, 3), (34, 40, 130), (64, 9, 64)]
)
def test_sizes(features: int, steps: int, batch: int) -> None:
    compare(made("h2", features), random(batch, features, seed=1), random(steps, batch, D, seed=2))


@pytest.mark.parametrize(
    "options",
    [
        {"integrator": hdnn.StormerVerlet()},
        {"integrator": hdnn.Yoshida4(), "damping": 0.3},
        {"damping": 0.5},
        {"width": 10},
        {"interconnection": hdnn.block(random(3, 3, seed=8))},
    ],
    ids=str,
)
def test_factors(options: dict[str, Any]) -> None:
    compare(made("h2", **options), random(4, 6, seed=1), random(9, 4, D, seed=2))


@pytest.mark.parametrize("options", [{}, {"width": 9}, {"activation": hdnn.softplus}], ids=str)
def test_stages_of_runge_and_kutta(options: dict[str, Any]) -> None:
    flow = made("h1", integrator=hdnn.RungeKutta4(), **options)
    assert flow.plan is not None
    assert flow.plan.method == "runge_kutta"
    compare(flow, random(4, 6, seed=1), random(9, 4, D, seed=2))


def test_a_learned_damping_that_inputs_drive_is_refused() -> None:
    """Its biases are those of every sample, and leave no place for g."""
    damped = hdnn.SymplecticEuler("p", 0.5, learn_damping=True)
    assert hdnn.h2(4, step=0.1, inputs=D, shared=True, integrator=damped).plan is None
    with pytest.raises(ValueError, match="no learned damping where inputs drive the steps"):
        hdnn.h2(4, step=0.1, inputs=D, shared=True, integrator=damped, backend="native")


def test_the_antisymmetric_network() -> None:
    flow = Flow(
        7, step=0.3, structure=hdnn.Skew(shift=-0.2), interconnection=hdnn.Inverse(skew=False), dtype=F64,
        integrator=hdnn.ForwardEuler(), inputs=D, shared=True, backend="native",
    )  # fmt: skip
    compare(flow, random(4, 7, seed=1), random(9, 4, D, seed=2))


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 5), (0,)])
def test_layouts(leading: tuple[int, ...]) -> None:
    """Axes of samples that inputs lack are those of the state; strides of any kind are read in place."""
    flow = made("h2")
    compare(flow, random(*leading, 6, seed=1), random(4, D, seed=2))
    if leading:
        compare(flow, random(*leading, 6, seed=1), random(4, leading[-1], D, seed=2))
        compare(flow, random(*leading, 12, seed=1)[..., ::2], random(*leading, 4, D, seed=2).movedim(-2, 0))


def test_gradients_without_memory_of_their_own() -> None:
    for states in (False, True):
        gradients = []
        for flow in twins(made("h2")):
            y, u = random(3, 6, seed=1).requires_grad_(), random(4, 3, D, seed=2)
            out = (flow.trajectory if states else flow)(y, inputs=u)
            gradients.append(torch.autograd.grad(out.sum() + out[-1].square().sum(), [y, *flow.parameters()]))
        for mine, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_no_steps_and_one_state() -> None:
    flow, y = made("h2"), random(3, 6, seed=1)
    assert torch.equal(flow(y, inputs=random(0, 3, D)), y)
    assert torch.equal(flow.trajectory(y, inputs=random(0, 3, D)), y.unsqueeze(0))


@pytest.mark.parametrize("which", SETS)
def test_instruction_sets_and_threads(which: str) -> None:
    with instruction_set(which):
        flow, y, u = made("h2", 20), random(200, 20, seed=1), random(30, 200, D, seed=2)
        compare(flow, y, u)
        with threads(1):
            alone = found(flow, y, u, True)
        with threads(2):
            assert all(map(torch.equal, alone, found(flow, y, u, True)))


def test_single_precision() -> None:
    flow, y, u = made("h2", 32), random(70, 32, seed=1), random(50, 70, D, seed=2)
    truth = found(flow, y, u, True)
    mine = found(flow.float(), y.float(), u.float(), True)
    for a, b in zip(mine, truth, strict=True):
        assert (a - b).norm() <= 3e-6 * b.norm()


def test_transforms() -> None:
    flow, eager = twins(made("h2"))
    y, u = random(3, 6, seed=1), random(4, 3, D, seed=2)
    auto = copy.deepcopy(flow)
    auto.backend = "auto"
    for run in ("forward", "trajectory"):

        def of(flow: Flow, y: Tensor, u: Tensor, run: str = run) -> Tensor:
            result: Tensor = flow.trajectory(y, inputs=u) if run == "trajectory" else flow(y, inputs=u)
            return result

        for f in (
            lambda flow, of=of: jacrev(lambda y: of(flow, y, u))(y),
            lambda flow, of=of: vmap(lambda y, u: of(flow, y, u), (0, 1))(y, u),
            lambda flow, of=of: vmap(lambda y: of(flow, y, u))(torch.stack([y, 2 * y])),
            lambda flow, of=of: vmap(jacrev(lambda y, u: of(flow, y, u)), (0, 1))(y, u),
        ):
            torch.testing.assert_close(f(flow), f(eager), rtol=1e-11, atol=1e-12)
        gradients = [
            vmap(grad(lambda p, y, u, each=each: functional_call(each, p, (y,), {"inputs": u}).sum()), (None, 0, 1))(
                dict(each.named_parameters()), y, u
            )
            for each in (flow, eager)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)
        second = [jacrev(jacrev(lambda y, each=each, of=of: of(each, y, u).sum()))(y) for each in (auto, eager)]
        torch.testing.assert_close(*second, rtol=1e-10, atol=1e-11)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # by which the compiler meets an autograd function
def test_compiled() -> None:
    flow, y, u = made("h2", backend="auto"), random(3, 6, seed=1), random(4, 3, D, seed=2)
    compiled = torch.compile(lambda y, u: flow.trajectory(y, inputs=u), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(y, u), flow.trajectory(y, inputs=u), rtol=1e-13, atol=1e-13)


def test_every_state_known_or_not_the_gradient_is_the_same() -> None:
    flow, y, u = made("h2", 16), random(70, 16, seed=1), random(90, 70, D, seed=2)
    plan = flow.plan
    assert plan is not None
    assert plan.driven
    assert plan.layers == 0
    weight, bias = flow.weight, torch.nn.functional.linear(u, flow.input_weight[0], flow.bias[0])  # type: ignore[index]
    layers, plan = Layers(weight.detach(), bias.detach(), None), replace(plan, layers=90, states=True)
    out, _ = calls.forward(plan, y, layers)
    g = random(*out.shape, seed=3)
    for mine, theirs in zip(
        calls.backward(plan, g, y, layers, out)[:3], calls.backward(plan, g, y, layers)[:3], strict=True
    ):
        assert mine is not None
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    to_y, *none = calls.backward(plan, g, y, layers, out, weights_too=False)
    assert none == [None, None, None]
    torch.testing.assert_close(to_y, calls.backward(plan, g, y, layers, out)[0], rtol=1e-13, atol=1e-13)


def test_tensors_that_do_not_fit() -> None:
    flow, y, u = made("h2"), random(3, 6), random(4, 3, D)
    plan = flow.plan
    assert plan is not None
    weight = flow.weight.detach()
    for bias in (random(4, 6), random(4, 2, 6), random(3, 3, 6), random(3, 4, 6)):
        with pytest.raises(ValueError, match="do not fit"):
            calls.forward(replace(plan, layers=4), y, Layers(weight, bias, None))
    with pytest.raises(ValueError, match="inputs"):
        flow(y)
    with pytest.raises(TypeError, match="float64"):
        flow(y, inputs=u.float())


def test_a_backend_that_knows_no_inputs_meets_none() -> None:
    class Timid(native.Native):
        name = "timid"
        drives = False

    with pytest.raises(ValueError, match="this flow is another"):
        made("h2", backend=Timid())
