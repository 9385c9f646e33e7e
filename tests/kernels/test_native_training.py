"""The native training step is the step of PyTorch: weights, losses and outputs, for every flow, loss and optimizer."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import signal
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from families import ACTIVATIONS, F64, INTEGRATORS, Factors, fill
from hdnn import presets
from hdnn.activations import Activation
from hdnn.kernels import native, training
from hdnn.kernels.plan import Plan
from hdnn.kernels.training import Setup, Trainees
from hdnn.networks import Network, vector_classifier, vector_regressor
from hdnn.training.batches import Batch
from hdnn.training.fused import tensors_of, why_not
from hdnn.training.learners import Single
from hdnn.training.objective import objective_of
from hdnn.training.recipe import Recipe
from hdnn.training.steps import joint_step
from hdnn.training.tensors import Memory
from native_cases import DAMPED, DAMPED_COMBINATIONS, F32, FUSED, SETS, Fused, instruction_set, threads

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

SIZE = 7  # of a batch; the last is smaller
RATES = [0.02, 0.05, 0.03, 0.01]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, data and a recipe, all drawn by one seed."""

    network: Network
    x: Tensor
    y: Tensor
    weight: Tensor | None
    order: Tensor
    recipe: Recipe
    size: int = SIZE

    def reference(self) -> tuple[Network, Tensor, Tensor]:
        """Trained step by step through autograd and PyTorch's optimizers: the network, objectives and outputs."""
        network, recipe = copy.deepcopy(self.network), self.recipe
        objective = objective_of(network, recipe)
        learner = Single(objective, recipe)
        losses, outputs = [], []
        for rate, chosen in zip(RATES, self.order.split(self.size), strict=True):
            learner.optimizer.param_groups[0]["lr"] = rate
            weight = None if self.weight is None else self.weight[chosen]
            loss, output = joint_step(learner, Batch(self.x[chosen], self.y[chosen], weight))
            losses.append(loss)
            outputs.append(output)
        return network, torch.stack(losses), torch.cat(outputs)

    def fused(self) -> tuple[Network, Tensor, Tensor]:
        """The same by native steps."""
        network = copy.deepcopy(self.network)
        run = Fused([network], self.recipe)
        losses, outputs = run.steps(*stacked(self), self.size, RATES)
        run.close()
        return network, losses[0], outputs[0]


def stacked(*cases: Case) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    weights = [case.weight for case in cases if case.weight is not None]
    return (
        torch.stack([case.x for case in cases]),
        torch.stack([case.y for case in cases]),
        torch.stack(weights) if weights else None,
        torch.stack([case.order for case in cases]),
    )


def drawn(
    factors: Factors, seed: int, dtype: torch.dtype = F64, size: int = SIZE, damped: bool = False, **choices: object
) -> Case:
    """A case with one of everything, by lot."""
    rows = 3 * size + 5
    lot = torch.Generator().manual_seed(seed)

    def pick(*options: object) -> object:
        return options[int(torch.randint(len(options), (), generator=lot))]

    activation, shared = pick(*ACTIVATIONS.values()), pick(False, False, True)
    layers = 3 if "per_layer" in factors.interconnection or not pick(True, True, True, False) else pick(1, 3, 5)
    integrator = (DAMPED if damped else INTEGRATORS)[factors.integrator]
    options = {"activation": activation, "shared": shared, "step": 0.2, "integrator": integrator}
    flow = factors.flow(6, layers, 0.7, seed, **options)  # type: ignore[arg-type]
    lift, outputs = pick("zeros", "linear"), pick(1, 2, 3)
    regression = pick(True, False, False)
    inputs = pick(1, 4, 6) if lift == "zeros" else pick(1, 4, 9)
    if regression:
        network = vector_regressor(inputs, outputs, flow, lift=lift)  # type: ignore[arg-type]
    else:
        network = vector_classifier(inputs, 2 if outputs == 1 else outputs + 1, flow, lift=lift)  # type: ignore[arg-type, operator]
    fill(network.head, 0.5, seed + 1)
    if lift == "linear":
        fill(network.lift, 0.5, seed + 2)
    frozen = pick("", "", "flow.bias", "head.weight", "flow.weight")
    if frozen:
        network.get_parameter(str(frozen)).requires_grad_(False)
    recipe = Recipe(
        optimizer=pick("adam", "adamw", "sgd"),  # type: ignore[arg-type]
        smoothness=pick(0.0, 0.3),  # type: ignore[arg-type]
        head_decay=pick(0.0, 0.2),  # type: ignore[arg-type]
        weight_decay=pick(0.0, 0.1),  # type: ignore[arg-type]
        label_smoothing=pick(0.0, 0.1),  # type: ignore[arg-type]
        clip=pick(None, 0.05, 100.0),  # type: ignore[arg-type]
    )
    recipe = dataclasses.replace(recipe, **choices)  # type: ignore[arg-type]
    x = torch.randn(rows, inputs, generator=lot)  # type: ignore[call-overload]
    classes = max(2, network.head.out_features)
    labels = torch.randint(classes, (rows,), generator=lot)
    targets = torch.randn(rows, network.head.out_features, generator=lot).to(dtype)
    weight = torch.rand(rows, generator=lot).to(dtype) if pick(True, False) else None
    if weight is not None:
        weight[:9] = 0
    order = torch.randperm(rows, generator=lot)
    return Case(network.to(dtype), x.to(dtype), targets if regression else labels, weight, order, recipe, size)


def require_close(ours: Network, theirs: Network, bound: float) -> None:
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        distance = float((a - b).detach().abs().max()) if a.numel() else 0.0
        assert distance <= bound * max(1.0, float(b.detach().abs().max())), (name, distance)


def require_same(ours: Network, theirs: Network) -> None:
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b), name


def is_that_of_pytorch(factors: Factors, seed: int, size: int = SIZE, damped: bool = False) -> None:
    case = drawn(factors, seed, size=size, damped=damped)
    assert why_not(case.network, case.recipe) == ""
    (ours, losses, outputs), (theirs, expected, told) = case.fused(), case.reference()
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(outputs, told, rtol=1e-10, atol=1e-10)
    require_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("factors", FUSED, ids=str)
def test_an_epoch_is_that_of_pytorch(factors: Factors) -> None:
    is_that_of_pytorch(factors, sum(map(ord, str(factors))))


@pytest.mark.parametrize("factors", DAMPED_COMBINATIONS, ids=str)
def test_an_epoch_with_damping_is_that_of_pytorch(factors: Factors) -> None:
    is_that_of_pytorch(factors, sum(map(ord, str(factors))), damped=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("factors", FUSED, ids=str)
def test_every_epoch_is_that_of_pytorch(factors: Factors, seed: int) -> None:
    is_that_of_pytorch(factors, seed)


@pytest.mark.parametrize("factors", FUSED[::7], ids=str)
def test_batches_of_several_blocks_are_those_of_pytorch(factors: Factors) -> None:
    for count in (1, 2):
        with threads(count):
            is_that_of_pytorch(factors, sum(map(ord, str(factors))), size=200)


@pytest.mark.parametrize("interconnection", ["skew", "per_layer_skew"])
def test_a_matrix_that_drives_need_not_be_skew(interconnection: str) -> None:
    case = drawn(Factors("Dense", interconnection, "ForwardEuler"), 4)
    J = case.network.flow.J
    J -= 0.3 * torch.rand_like(J)  # as in a J - R
    assert why_not(case.network, case.recipe) == ""
    (ours, losses, _), (theirs, expected, _) = case.fused(), case.reference()
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=1e-10)
    require_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_a_step_in_single_precision_is_that_of_pytorch(seed: int) -> None:
    case = drawn(FUSED[(7 * seed) % len(FUSED)], seed, F32)
    case = dataclasses.replace(case, order=case.order[:SIZE])
    ours, theirs = copy.deepcopy(case.network), copy.deepcopy(case.network)
    run = Fused([ours], dataclasses.replace(case.recipe, optimizer="sgd"))
    run.steps(*stacked(case), SIZE, RATES[:1])
    run.close()
    recipe = dataclasses.replace(case.recipe, optimizer="sgd", learning_rate=RATES[0])
    objective = objective_of(theirs, recipe)
    weight = None if case.weight is None else case.weight[case.order]
    joint_step(Single(objective, recipe), Batch(case.x[case.order], case.y[case.order], weight))
    require_close(ours, theirs, 1e-5)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_all_instruction_sets_train(name: str, dtype: torch.dtype) -> None:
    for seed in range(3):
        case = drawn(FUSED[11 * seed], seed, dtype, optimizer="sgd")
        with instruction_set(name):
            ours, losses, _ = case.fused()
        theirs, expected, _ = case.reference()
        torch.testing.assert_close(losses, expected, rtol=1e-4 if dtype is F32 else 1e-10, atol=1e-6)
        require_close(ours, theirs, 1e-4 if dtype is F32 else 1e-10)


# The same bits ------------------------------------------------------------------------------------------------------

SOME = FUSED[:: max(1, len(FUSED) // 8)]


@pytest.mark.parametrize("factors", SOME, ids=str)
def test_the_bits_depend_neither_on_threads_nor_on_neighbours(factors: Factors) -> None:
    # Alike but for weights, data and orders: a stack of one setup.
    first = drawn(factors, 3)
    cases = [first]
    for k in (1, 2):
        network = copy.deepcopy(first.network)
        fill(network.flow, 0.6, k)
        cases.append(dataclasses.replace(first, network=network, x=first.x + k, order=first.order.roll(k)))
    alone = [case.fused() for case in cases]
    for count in (1, 2):
        with threads(count):
            networks = [copy.deepcopy(case.network) for case in cases]
            run = Fused(networks, first.recipe)
            losses, outputs = run.steps(*stacked(*cases), SIZE, RATES)
            run.close()
            for k, (network, loss, output) in enumerate(alone):
                require_same(networks[k], network)
                assert torch.equal(losses[k], loss)
                assert torch.equal(outputs[k], output)


def test_many_rows_have_the_same_bits_at_any_number_of_threads() -> None:
    flow = presets.h2(16, 6, step=0.1)
    network = vector_classifier(5, 3, flow, lift="linear")
    x, y, order = torch.randn(1, 3000, 5), torch.randint(3, (1, 3000)), torch.randperm(3000)[None]
    found = []
    for count in (1, 2):
        with threads(count):
            run = Fused([copy.deepcopy(network)], Recipe())
            run.steps(x, y, None, order, 1500, [0.1, 0.1])
            found.append(run.trainees.parameters)
    assert torch.equal(*found)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_training_taken_apart_has_the_same_bits(optimizer: str) -> None:
    for factors in SOME[:4]:
        case = drawn(factors, 5, optimizer=optimizer)
        whole, losses, outputs = case.fused()
        network = copy.deepcopy(case.network)
        x, y, weight, order = stacked(case)
        seen: list[tuple[Tensor, Tensor]] = []
        memory: Memory = {}
        for k, (rows, rate) in enumerate(zip(order.split(SIZE, dim=1), RATES, strict=True)):
            run = Fused([network], case.recipe)
            if k:
                run.remember(memory, stacked=False)
            assert optimizer == "sgd" or run.trainees.done == k
            seen.append(run.steps(x, y, weight, rows, SIZE, [rate]))
            run.close()
            memory = run.memory(stacked=False)
        require_same(network, whole)
        assert torch.equal(torch.cat([loss[0] for loss, _ in seen]), losses)
        assert torch.equal(torch.cat([output[0] for _, output in seen]), outputs)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_memory_is_that_of_pytorch(optimizer: str) -> None:
    case = drawn(Factors("Dense", "Learned", "ForwardEuler"), 8, optimizer=optimizer)
    network = copy.deepcopy(case.network)
    run = Fused([network], case.recipe)
    run.steps(*stacked(case), SIZE, RATES)
    theirs = copy.deepcopy(case.network)
    objective = objective_of(theirs, case.recipe)
    learner = Single(objective, case.recipe)
    torches = learner.optimizer
    for rate, chosen in zip(RATES, case.order.split(SIZE), strict=True):
        torches.param_groups[0]["lr"] = rate
        weight = None if case.weight is None else case.weight[chosen]
        joint_step(learner, Batch(case.x[chosen], case.y[chosen], weight))
    expected = {
        f"{i}.{name}": value
        for i, kept in torches.state_dict()["state"].items()
        for name, value in kept.items()
    }  # fmt: skip
    memory = run.memory(stacked=False)
    assert memory.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(memory[name], value, rtol=1e-9, atol=1e-12)


# Plain layers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 4, 5, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", ["perceptron", "euler"])
def test_plain_layers_train(method: str, activation: str, n: int) -> None:
    """y⁺ = σ(K y + b), and y⁺ = y + h σ(K y + b)."""
    sigma: Activation = ACTIVATIONS[activation]
    step, layers = (1.0 if method == "perceptron" else 0.3), 3
    plan = Plan(
        method=method,  # type: ignore[arg-type]
        first="",
        structure="dense",
        drive="identity",
        activation=str(sigma.kernel),
        negative_slope=getattr(sigma, "negative_slope", 0.0),
        step=step,
        features=n,
        hidden=n,
        layers=layers,
        shared=False,
        images=False,
    )
    setup = Setup(plan, 2, 1, False, "binary", "sgd")
    torch.manual_seed(n)
    tensors = [
        nn.Parameter(torch.randn(*size, dtype=F64) * 0.7) for size in ((layers, n, n), (layers, n), (1, n), (1,))
    ]
    trainees = Trainees.fresh(torch.cat([p.detach().flatten() for p in tensors])[None], "sgd")
    x, y = torch.randn(9, 2, dtype=F64), torch.randint(2, (9,))
    K, b, W, mu = tensors
    state = functional.pad(x, (0, n - 2))
    for j in range(layers):
        moved = step * sigma.value(state @ K[j].T + b[j])
        state = moved if method == "perceptron" else state + moved
    loss = functional.binary_cross_entropy_with_logits((state @ W.T + mu).squeeze(-1), y.to(F64))
    torch.autograd.backward(loss)
    rates = torch.tensor([0.1], dtype=F64)
    losses, _ = training.train(setup, trainees, x[None], y[None], torch.arange(9)[None], torch.tensor([0, 9]), rates)
    torch.testing.assert_close(losses[0, 0], loss.detach())
    expected = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in tensors if p.grad is not None])
    torch.testing.assert_close(trainees.parameters[0], expected, rtol=1e-11, atol=1e-11)


# When things go wrong -----------------------------------------------------------------------------------------------


def test_a_network_that_fails_says_when_and_disturbs_nobody() -> None:
    case = drawn(Factors("BlockDiagonal", "canonical", "SymplecticEuler_p"), 0, optimizer="sgd", clip=None)
    sick = dataclasses.replace(case, network=copy.deepcopy(case.network), x=case.x.clone())
    sick.x[case.order[2 * SIZE]] = torch.inf
    networks = [copy.deepcopy(sick.network), copy.deepcopy(case.network)]
    run = Fused(networks, case.recipe)
    losses, _ = run.steps(*stacked(sick, case), SIZE, RATES)
    run.close()
    assert run.trainees.failed.tolist() == [2, -1]
    assert losses[0].isfinite().tolist() == [True, True, False, False]
    require_same(networks[1], case.fused()[0])
    before = dataclasses.replace(sick, order=sick.order[: 2 * SIZE])
    early = copy.deepcopy(sick.network)
    short = Fused([early], case.recipe)
    short.steps(*stacked(before), SIZE, RATES[:2])
    short.close()
    require_same(networks[0], early)
    again, _ = run.steps(*stacked(sick, case), SIZE, RATES)
    assert again[0].isnan().all()
    assert run.trainees.failed.tolist() == [2, -1]


def test_ctrl_c_stops_within_moments() -> None:
    network = vector_classifier(2, 2, presets.h1(4, 64, step=0.1))
    x, y = torch.randn(1, 200, 2), torch.randint(2, (1, 200))
    run = Fused([network], Recipe())
    order = torch.arange(200).repeat(5000)[None]
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run.steps(x, y, None, order, 100, [1e-3] * 10_000)
    timer.join()


def test_parts_are_the_parameters_in_order() -> None:
    for factors, lift in itertools.product(FUSED[::5], ("zeros", "linear")):
        network = vector_classifier(3, 2, factors.flow(6, 3), lift=lift)  # type: ignore[arg-type]
        for (_, p), q in zip(tensors_of(network.to(F64)).items(), network.parameters(), strict=True):
            assert p is q
        run = Fused([network.to(F64)], Recipe())
        assert run.trainees.parameters.shape == (1, sum(run.setup.sizes.values()))
