"""The damping of the momenta: what it keeps, what falls, and what undoes it."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import pickle
import re

import pytest
import torch
from torch import Tensor

import hdnn
from families import Factors, fill, preset, random, tight
from hdnn import damping
from hdnn.analysis import (
    check_symplecticity,
    continuous_sensitivities,
    energy_drift,
    gradient_lower_bound,
    layer_jacobians,
    linearize,
    log_volume,
    lower_bound,
    norms,
    reversibility_error,
    sensitivities,
    symplecticity_residual,
    upper_bound,
)
from hdnn.integrators import ImplicitMidpoint, Splitting, StormerVerlet, Suzuki4, SymplecticEuler, Yoshida4
from hdnn.interconnections import Fixed, Learned, block
from hdnn.kernels import native, reference
from hdnn.networks import NetworkConfig, build_network

RATE = 0.7
SPLITTINGS: list[Splitting] = [
    kind(first, RATE, learned)
    for kind in (SymplecticEuler, StormerVerlet, Yoshida4, Suzuki4)
    for first in ("p", "q")
    for learned in (False, True)
]
NAMED = pytest.mark.parametrize("integrator", SPLITTINGS, ids=repr)


def damped(integrator: Splitting, model: str = "h2", **options: object) -> hdnn.Flow:
    return preset(model, 4, 6, std=0.8, integrator=integrator, **options)


def jacobian(flow: hdnn.Flow, y: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.jacrev(flow))(y)


@NAMED
@pytest.mark.parametrize("J", ["canonical", "block", "Learned"])
def test_structure_is_scaled(integrator: Splitting, J: str) -> None:
    X = block(random(2, 2, seed=8))
    chosen = {"canonical": "canonical", "block": Fixed(X), "Learned": Learned(X, block(torch.ones(2, 2)) != 0)}[J]
    flow = damped(integrator, interconnection=chosen)
    assert not flow.preserves_structure
    assert not flow.preserves_volume
    assert flow.scales_structure
    M, factor = jacobian(flow, random(5, 4)), math.exp(-RATE * flow.horizon)
    tight(M @ flow.J @ M.mT, (factor * flow.J).expand(5, -1, -1))
    tight(sensitivities(flow, random(5, 4))[0], M)
    kept = check_symplecticity(flow, random(5, 4))
    assert kept.factor == pytest.approx(factor)
    assert kept.relative.max() < 1e-13
    assert symplecticity_residual(M, flow.J, relative=True).min() > 1e-3  # J itself is not kept


@NAMED
@pytest.mark.parametrize("model", ["h2", "ms1", "ms3"])
def test_norms_are_bounded_from_below_by_the_volume_that_is_left(integrator: Splitting, model: str) -> None:
    flow, y = damped(integrator, model), random(7, 4)
    M = sensitivities(flow, y)
    tight(log_volume(flow, y), torch.full((7,), -2 * RATE * flow.horizon, dtype=torch.float64))
    bound = lower_bound(flow)
    assert bound == pytest.approx(math.exp(-RATE * flow.horizon / 2))
    assert norms(M).min() >= bound
    assert norms(M)[0].max() <= upper_bound(flow)


def test_the_bound_is_reached_and_no_flow_promises_more() -> None:
    flow = damped(SymplecticEuler("p", RATE))
    with torch.no_grad():
        flow.weight.zero_()
    M = jacobian(flow, random(1, 4))[0]
    tight(torch.linalg.svdvals(M), torch.tensor([1.0, 1.0, *[math.exp(-RATE * 0.6)] * 2], dtype=torch.float64))
    assert float(torch.linalg.det(M).detach().abs()) ** 0.25 == pytest.approx(lower_bound(flow))


@NAMED
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("model", ["h2", "ms1"])
def test_certificates_of_gradients_hold(integrator: Splitting, measured: bool, model: str) -> None:
    flow, y = damped(integrator, model), random(7, 4)
    M = sensitivities(flow, y)
    found = gradient_lower_bound(flow, norms(M) if measured else None)
    smallest = torch.linalg.svdvals(M)[..., -1]
    certain = found.value if measured else found.value[:, None]
    assert (smallest >= certain * (1 - 1e-12)).all()
    assert (certain > 0).all()
    assert "γ" in found.reason or "damping" in found.reason


def test_certificates_would_not_hold_without_the_damping() -> None:
    flow, y = damped(SymplecticEuler("p", 5.0)), random(7, 4)
    undamped = copy.deepcopy(flow)
    undamped.integrator = SymplecticEuler("p")
    smallest = torch.linalg.svdvals(sensitivities(flow, y))[..., -1]
    assert (smallest < gradient_lower_bound(undamped).value[:, None])[:-1].any()


def test_singular_values_pair_for_the_canonical_J_and_eigenvalues_for_any() -> None:
    """s s' = e^(−γT) is of the canonical J alone; the eigenvalues of M pair as λ λ' = e^(−γT) for every regular J."""
    factor = math.exp(-RATE * 0.6)
    for J, pair in (("canonical", True), (Fixed(block(random(2, 2, seed=8))), False)):
        M = jacobian(damped(SymplecticEuler("p", RATE), interconnection=J), random(1, 4))[0]
        s = torch.linalg.svdvals(M)
        assert torch.allclose(s * s.flip(0), torch.full_like(s, factor)) == pair
        values = torch.linalg.eigvals(M)
        products = values[:, None] * values
        assert ((products - factor).abs().min(1).values < 1e-10).all()


def test_dissipation_of_the_momenta_alone_is_not_conformal() -> None:
    """R = diag(γ I, 0) inside S = J − R: exp(tA) of A = (J − R) ∂²H scales no J, except where ∂²H of p is I."""
    J, R = hdnn.canonical(4).double(), torch.diag(torch.tensor([RATE, RATE, 0, 0], dtype=torch.float64))
    root = random(4, 4, seed=3)
    M = torch.linalg.matrix_exp((J - R) @ (root @ root.T))
    best = (M @ J @ M.T * J).sum() / (J * J).sum()
    assert torch.linalg.matrix_norm(M @ J @ M.T - best * J) > 0.1
    separable = torch.block_diag(torch.eye(2, dtype=torch.float64), (root @ root.T)[:2, :2])
    M = torch.linalg.matrix_exp((J - R) @ separable)
    tight(M @ J @ M.T, math.exp(-RATE) * J)


def test_energy_may_grow_under_damping() -> None:
    """dH/dt = −γ p ∂H/∂p: +0.16 at p = −0.5 for H = log cosh(p + 1) and γ = 0.7."""
    p = -0.5
    assert -RATE * p * math.tanh(p + 1) == pytest.approx(0.16, abs=0.005)
    flow = hdnn.h2(2, 1, step=1e-4, damping=RATE, dtype=torch.float64, shared=True)
    with torch.no_grad():
        flow.weight.zero_()
        flow.weight[0, 0] = 1.0
        flow.bias.copy_(torch.tensor([[1.0, 0.0]]))
    drift = energy_drift(flow, torch.tensor([[p, 0.0]], dtype=torch.float64))
    assert float(drift[-1]) / 1e-4 == pytest.approx(0.16, abs=0.005)


@NAMED
def test_steps_are_those_of_the_undamped_method_after_the_decay(integrator: Splitting) -> None:
    flow, y = damped(integrator), random(5, 4)
    plain = dataclasses.replace(integrator, damping=0.0, learn_damping=False)
    decay = torch.tensor([math.exp(-RATE * flow.step)] * 2 + [1.0] * 2, dtype=torch.float64)
    expected = y
    for field in flow.fields(y):
        expected = plain.step(field, expected * decay, flow.step)
    tight(flow(y), expected)
    tight(flow.trajectory(y)[-1], expected)
    tight(flow.inverse(expected), y)
    assert reversibility_error(flow, y).max() < 1e-12
    tight(flow[3:](flow[:3](y)), expected)
    assert flow.refine(2).damping == pytest.approx(RATE)
    tight(layer_jacobians(flow, y)[2], jacobian(flow[2], flow.trajectory(y)[2]))


@pytest.mark.parametrize("integrator", [i for i in SPLITTINGS if not i.learn_damping], ids=repr)
def test_a_damped_step_has_order_one(integrator: Splitting) -> None:
    def at_one(steps: int) -> Tensor:
        flow = fill(hdnn.h2(4, steps, horizon=1.0, shared=True, dtype=torch.float64, integrator=integrator), std=0.8)
        return flow(random(10, 4)).detach()

    truth = at_one(4096)
    coarse, fine = ((at_one(steps) - truth).norm() for steps in (64, 128))
    assert 0.9 < float((coarse / fine).log2()) < 1.1


@NAMED
@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_gradients(integrator: Splitting, memory: str) -> None:
    flow, y = damped(integrator, memory=memory, backend="eager"), random(3, 4).requires_grad_()
    parameters = dict(flow.named_parameters())
    assert ("damping_weight" in parameters) == integrator.learn_damping

    def run(y: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(flow, dict(zip(parameters, values, strict=True)), (y,))

    assert torch.autograd.gradcheck(run, (y, *(p.detach().requires_grad_() for p in parameters.values())))


@pytest.mark.skipif(not native.available(), reason="needs the compiled extension")
@pytest.mark.parametrize("integrator", [i for i in SPLITTINGS if not i.learn_damping], ids=repr)
@pytest.mark.parametrize("model", ["h2", "ms1", "ms3", "block", "masked"])
@pytest.mark.parametrize("features", [2, 4, 6, 18])
def test_native_is_the_reference(integrator: Splitting, model: str, features: int) -> None:
    if model in ("block", "masked"):
        structure = "BlockDiagonal_wide" if model == "block" else "Masked_Dense"
        flow = Factors(structure, "block", "SymplecticEuler_p").flow(features, 40, backend="native", memory=None)
        flow.integrator = integrator
    else:
        flow = preset(model, features, 40, std=0.8, integrator=integrator, backend="native")
    y, g = random(37, features).requires_grad_(), random(37, features, seed=9)
    out = flow(y)
    found = torch.autograd.grad(out, (y, flow.weight, flow.bias), g)
    J = None if flow.interconnection.is_inverse else flow.J
    K = flow.K
    G = torch.eye(features, dtype=torch.float64).expand(40, -1, -1) if J is None else J @ K.mT
    plain = reference.partitioned(
        y, K, flow.bias, G, flow.step, torch.tanh, integrator.first, integrator.fractions, RATE
    )
    tight(out, plain)
    for a, b in zip(found, torch.autograd.grad(plain, (y, flow.weight, flow.bias), g), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not native.available(), reason="needs the compiled extension")
def test_pytorch_goes_on_with_what_native_steps_remember_of_a_learned_damping() -> None:
    """Also of a copy, and beside a learned J: the memory of an optimizer is by the order of the parameters."""
    x, y = random(40, 2), torch.arange(40) % 2
    recipe = hdnn.Recipe(epochs=4, batch_size=8, learning_rate=0.05)
    damped = SymplecticEuler("q", RATE, learn_damping=True)
    flow = Factors("BlockDiagonal", "Learned_block", "SymplecticEuler_q").flow(4, 3, integrator=damped)
    made = hdnn.vector_classifier(2, 2, flow)
    names = [name for name, _ in made.named_parameters()]
    assert names == [name for name, _ in copy.deepcopy(made).named_parameters()]
    states, ends = [], []
    for backend in ("native", "torch"):
        network = copy.deepcopy(made)
        assert hdnn.training_backend(network, x, y, recipe).backend == "native"
        keep = hdnn.every(epochs=1)(lambda progress: states.append(progress.state()))
        hdnn.fit(network, x, y, recipe, callbacks=[keep], backend=backend)
        ends.append(network.flow.damping)
    assert abs(ends[0] - RATE) > 1e-3
    network = copy.deepcopy(made)
    with pytest.warns(UserWarning, match="by the native backend"):
        hdnn.fit(network, x, y, recipe, resume=states[1], backend="torch")
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)
    assert network.flow.damping == pytest.approx(ends[1], rel=1e-9)


@pytest.mark.skipif(not native.available(), reason="needs the compiled extension")
def test_native_training_steps_are_those_of_pytorch() -> None:
    x, y = random(40, 2).float(), torch.arange(40) % 2
    config = NetworkConfig("classification", (2,), 2, model="h2", features=4, layers=8, step=0.1, damping=RATE)
    found = []
    for backend in ("native", "torch"):
        torch.manual_seed(0)
        network = build_network(config)
        hdnn.fit(network, x, y, hdnn.Recipe(epochs=3, batch_size=8), backend=backend)
        found.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(*found, rtol=2e-4, atol=2e-5)


@torch.no_grad()
def test_the_way_back_multiplies_errors_by_the_damping_that_it_undoes() -> None:
    """e^(γT) times the rounding of float32: 2e-5, 1e-3 and 0.2 at γT = 5, 10 and 15, to an order of magnitude."""
    y = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    for total, error in ((5, 2e-5), (10, 1e-3), (15, 0.2)):
        torch.manual_seed(0)
        flow = hdnn.h2(4, 64, horizon=1.0, damping=float(total))
        lost = float((flow.inverse(flow(y)) - y).abs().max())
        assert error / 10 < lost < error * 10


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 4.0), (torch.float64, 20.0)])
def test_reverse_memory_refuses_what_it_cannot_undo(dtype: torch.dtype, most: float) -> None:
    flow = hdnn.h2(4, 16, horizon=1.0, damping=most, memory="reverse", backend="eager", dtype=dtype)
    y = random(5, 4).to(dtype)
    stored = copy.deepcopy(flow)
    stored.memory = "store"
    pulled = [torch.autograd.grad(each(y).square().sum(), each.weight)[0] for each in (flow, stored)]
    torch.testing.assert_close(*pulled, rtol=1e-2, atol=1e-4)
    with pytest.raises(ValueError, match=re.escape(f"digits up to γT = {most:g}")):
        hdnn.h2(4, 16, horizon=1.0, damping=most * 1.01, memory="reverse", dtype=dtype)
    stored.integrator = SymplecticEuler("p", most * 1.01)
    with pytest.raises(ValueError, match="digits up to"):
        stored.memory = "reverse"
    if dtype is torch.float64:
        single = copy.deepcopy(flow).float()
        with pytest.raises(ValueError, match="float32 leaves digits up to γT = 4"):
            single(y.float())
    with pytest.raises(ValueError, match="a learned γ"):
        hdnn.h2(4, 2, step=0.1, integrator=SymplecticEuler("p", 0.1, True), memory="reverse")
    driven = hdnn.h2(4, step=1.0, inputs=1, shared=True, damping=1.0, memory="reverse", backend="eager", dtype=dtype)
    with pytest.raises(ValueError, match="digits up to"):
        driven(y, inputs=torch.zeros(30, 5, 1, dtype=dtype))


@pytest.mark.parametrize("rate", [-0.1, math.inf, math.nan])
def test_rates_below_zero_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        SymplecticEuler("p", rate)


def test_a_learned_rate_stays_above_zero_and_starts_where_it_was_told() -> None:
    with pytest.raises(ValueError, match="give the rate that training starts"):
        SymplecticEuler("p", 0.0, learn_damping=True)
    flow = hdnn.h2(4, 4, step=0.1, integrator=SymplecticEuler("p", 0.3, learn_damping=True))
    assert flow.damping == pytest.approx(0.3)
    optimizer = torch.optim.SGD(flow.parameters(), lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        flow(torch.randn(9, 4)).square().sum().backward()
        optimizer.step()
        assert flow.damping >= 0
    flow.reset_parameters()
    assert flow.damping == pytest.approx(0.3)
    with pytest.raises(ValueError, match="fixed when a flow is made"):
        flow.integrator = SymplecticEuler()


def test_where_damping_makes_no_sense() -> None:
    for made in (hdnn.ms1, hdnn.ms3, hdnn.h2):
        assert made(4, 2, step=0.1, damping=0.5).damping == 0.5
        assert made(4, 2, step=0.1, damping=0.5, integrator="stormer_verlet").integrator.damping == 0.5
        with pytest.raises(ValueError, match="moves the whole state at once"):
            made(4, 2, step=0.1, damping=0.5, integrator=ImplicitMidpoint())
    assert hdnn.ms1(4, 2, step=0.1, damping=0.5).integrator.first == "q"
    with pytest.raises(TypeError, match="damping"):
        hdnn.h1(4, 2, step=0.1, damping=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"one half of it; got 0\.5\. Use h2, ms1 or ms3"):
        NetworkConfig("classification", (2,), 2, model="h1", features=4, layers=8, step=0.1, damping=0.5)
    flow = hdnn.h2(4, 2, step=0.1, damping=0.5)
    for refused in (lambda: continuous_sensitivities(flow, torch.randn(4)), lambda: linearize(flow, torch.randn(4))):
        with pytest.raises(ValueError, match=r"also damp the momenta, at the rate γ = 0\.5"):
            refused()


def test_files_and_words() -> None:
    assert repr(SymplecticEuler()) == "SymplecticEuler(first='p')"
    assert repr(SymplecticEuler("q", 0.25)) == "SymplecticEuler(first='q', damping=0.25)"
    flow = hdnn.h2(4, 3, step=0.1, integrator=StormerVerlet("p", 0.2, learn_damping=True))
    assert "learn_damping=True" in repr(flow)
    assert pickle.loads(pickle.dumps(flow)).damping == flow.damping
    file = io.BytesIO()
    torch.save(flow.state_dict(), file)
    file.seek(0)
    other = hdnn.h2(4, 3, step=0.1, integrator=StormerVerlet("p", 0.9, learn_damping=True))
    other.load_state_dict(torch.load(file))
    y = torch.randn(3, 4)
    assert torch.equal(other(y), flow(y))
    old = hdnn.h2(4, 3, step=0.1).state_dict()
    assert set(old) == {"weight", "bias", "interconnection_matrix"}


def test_integrators_of_before_are_undamped() -> None:
    old = SymplecticEuler("q")
    for name in ("damping", "learn_damping"):
        vars(old).pop(name)  # as pickles of 0.1.0 hold them
    assert old.damping == 0
    assert old.symplectic
    y = random(3, 4)
    (field,) = preset("h2", 4, 1).fields()
    assert torch.equal(old.step(field, y, 0.1), SymplecticEuler("q").step(field, y, 0.1))


def test_no_damping_is_no_damping() -> None:
    assert damping.slots(0.0, False) == {}
    assert SymplecticEuler("p", 0.0).symplectic
    assert not SymplecticEuler("p", 0.1).symplectic
    assert preset("h2", damping=0.0).preserves_structure


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_ways_of_pytorch() -> None:
    flow = hdnn.h2(4, 6, step=0.1, integrator=SymplecticEuler("p", RATE, learn_damping=True), dtype=torch.float64)
    y = random(3, 4)
    exported = torch.export.export(flow, (y,)).module()
    tight(exported(y), flow(y))
    _, tangent = torch.func.jvp(flow, (y,), (torch.ones_like(y),))
    tight(tangent, (jacobian(flow, y) @ torch.ones(4, 1, dtype=torch.float64)).squeeze(-1))
