"""What a native training tells beside losses: the gradient it moved along, and how far it came."""

from __future__ import annotations

import copy
import signal
import threading
import time

import pytest
import torch
from test_native_training import RATES, SIZE, Case, drawn, stacked
from torch import Tensor

from families import F64, Factors
from hdnn import presets
from hdnn.kernels import native, training
from hdnn.networks import vector_classifier
from hdnn.training.batches import Batch
from hdnn.training.fused import tensors_of
from hdnn.training.learners import Single
from hdnn.training.objective import objective_of
from hdnn.training.recipe import Recipe
from hdnn.training.steps import joint_step
from native_cases import FUSED, Fused

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")


def bounds_of(steps: int) -> Tensor:
    return torch.tensor([*range(0, 26, SIZE), 26])[: steps + 1]


def gradient_of(run: Fused, case: Case, steps: int = len(RATES)) -> Tensor:
    """What the last of so many steps moved along, (P,)."""
    told = torch.full_like(run.trainees.parameters, torch.nan)
    x, y, weight, order = stacked(case)
    each = torch.tensor(RATES[:steps], dtype=F64)
    training.train(run.setup, run.trainees, x, y, order, bounds_of(steps), each, weight, told)
    return told[0]


def gradient_by_pytorch(case: Case) -> Tensor:
    network, recipe = copy.deepcopy(case.network), case.recipe
    learner = Single(objective_of(network, recipe), recipe)
    for rate, chosen in zip(RATES, case.order.split(SIZE), strict=True):
        learner.optimizer.param_groups[0]["lr"] = rate
        weight = None if case.weight is None else case.weight[chosen]
        joint_step(learner, Batch(case.x[chosen], case.y[chosen], weight))
    each = [torch.zeros_like(p) if p.grad is None else p.grad for p in tensors_of(network).values()]
    return torch.cat([g.flatten() for g in each])


@pytest.mark.parametrize("seed", range(24))
def test_the_gradient_is_what_pytorch_leaves(seed: int) -> None:
    case = drawn(FUSED[(5 * seed) % len(FUSED)], seed)
    ours = gradient_of(Fused([copy.deepcopy(case.network)], case.recipe), case)
    torch.testing.assert_close(ours, gradient_by_pytorch(case), rtol=1e-9, atol=1e-11)


def test_a_network_that_fails_tells_the_gradient_of_its_last_good_step() -> None:
    case = drawn(Factors("BlockDiagonal", "canonical", "SymplecticEuler_p"), 0, optimizer="sgd", clip=None)
    case.x[case.order[2 * SIZE]] = torch.inf
    run, early = (Fused([copy.deepcopy(case.network)], case.recipe) for _ in range(2))
    assert torch.equal(gradient_of(run, case), gradient_of(early, case, 2))
    assert run.trainees.failed.tolist() == [2]
    assert not gradient_of(run, case).any()  # no step more


def test_ctrl_c_stops_between_two_steps_and_says_how_many_were_taken() -> None:
    network = vector_classifier(2, 2, presets.h1(4, 64, step=0.1))
    x, y, order = torch.randn(1, 200, 2), torch.randint(2, (1, 200)), torch.arange(200).repeat(10_000)[None]
    run, again = (Fused([copy.deepcopy(network)], Recipe()) for _ in range(2))
    began = run.trainees.parameters.clone()

    def press_after_a_step() -> None:  # however long the first one takes on a busy machine
        while torch.equal(run.trainees.parameters, began):
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    finger = threading.Thread(target=press_after_a_step, daemon=True)
    finger.start()
    with pytest.raises(KeyboardInterrupt):
        run.steps(x, y, None, order, 100, [1e-3] * 20_000)
    finger.join()
    done = run.trainees.done
    assert 0 < done < 20_000
    again.steps(x, y, None, order[:, : done * 100], 100, [1e-3] * done)
    assert torch.equal(run.trainees.parameters, again.trainees.parameters)
    assert torch.equal(run.trainees.first, again.trainees.first)
    # and it goes on as if nothing had been
    rest = slice(100 * done, 100 * (done + 3))
    run.steps(x, y, None, order[:, rest], 100, [1e-3] * 3)
    whole = Fused([copy.deepcopy(network)], Recipe())
    whole.steps(x, y, None, order[:, : rest.stop], 100, [1e-3] * (done + 3))
    assert torch.equal(run.trainees.parameters, whole.trainees.parameters)


def test_a_gradient_of_another_shape_is_refused() -> None:
    case = drawn(FUSED[0], 0)
    run = Fused([copy.deepcopy(case.network)], case.recipe)
    x, y, weight, order = stacked(case)
    rates = torch.tensor(RATES, dtype=F64)
    with pytest.raises(ValueError, match="`gradient`"):
        training.train(run.setup, run.trainees, x, y, order, bounds_of(4), rates, weight, torch.zeros(1, 2, dtype=F64))
