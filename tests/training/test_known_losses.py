"""Losses of PyTorch that native steps know, and `Sequential(linear, Flow, linear)`, which they take for a network."""

from __future__ import annotations

import copy
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from families import PRESETS, fill, random
from hdnn.kernels import native
from hdnn.networks import ZeroPadding
from hdnn.training import losses

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")
ROWS, OUTPUTS = 57, 3
CLASSES = torch.arange(ROWS) * 7 % OUTPUTS
LOSSES: dict[str, tuple[Any, Tensor]] = {
    "cross_entropy": (functional.cross_entropy, CLASSES),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), CLASSES),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), CLASSES),
    "partial": (partial(functional.cross_entropy, label_smoothing=0.1), CLASSES),
    "mse_loss": (functional.mse_loss, random(ROWS, OUTPUTS, seed=3)),
    "MSELoss": (nn.MSELoss(), random(ROWS, OUTPUTS, seed=3)),
}


def chain(name: str = "h2", seed: int = 0, lift: nn.Module | None = None, **options: Any) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = fill(PRESETS[name](4, 3, step=0.3, **options), 0.5, seed)
        return nn.Sequential(nn.Linear(2, 4) if lift is None else lift, flow, nn.Linear(4, OUTPUTS)).double()


def trained(model: nn.Module, loss: Any, y: Tensor, backend: str, **options: Any) -> list[dict[str, float]]:
    recipe = hdnn.Recipe(epochs=3, batch_size=16, learning_rate=0.05, smoothness=1e-2, clip=0.5, **options)
    return hdnn.fit(model, random(ROWS, 2, seed=1), y, recipe, loss, backend=backend, score={"mean": _mean})  # type: ignore[arg-type]


def _mean(output: Tensor, y: Tensor) -> Tensor:
    return output.mean()


def by_autograd(model: nn.Module, loss: Any) -> tuple[nn.Module, Any]:
    """The same model and loss in clothes that nobody knows."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.model(x)
            return result

    return Own(), lambda output, y: loss(output, y)


def same(mine: nn.Module, theirs: nn.Module) -> None:
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", PRESETS)
def test_a_training_is_that_of_autograd(name: str, loss: str) -> None:
    made = chain(name)
    chosen = hdnn.training_backend(made, random(ROWS, 2), LOSSES[loss][1], hdnn.Recipe(), LOSSES[loss][0])
    assert chosen == ("native", "")
    mine, theirs = copy.deepcopy(made), copy.deepcopy(made)
    told = trained(mine, *LOSSES[loss], "native")
    own, unknown = by_autograd(theirs, LOSSES[loss][0])
    expected = trained(own, unknown, LOSSES[loss][1], "torch")
    same(mine, theirs)
    for a, b in zip(told, expected, strict=True):
        assert a.keys() == b.keys()
        assert [a[k] for k in a if k != "seconds"] == pytest.approx([b[k] for k in a if k != "seconds"], rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"lift": ZeroPadding(2, 4)},
        {"integrator": hdnn.SymplecticEuler("p", 0.4, learn_damping=True)},
        {"name": "h1", "integrator": hdnn.RungeKutta4()},
        {"name": "h1", "width": 7, "interconnection": hdnn.Learned(hdnn.upper_ones(4))},
    ],
    ids=lambda options: next(reversed(options)),
)
def test_other_factors(options: dict[str, Any]) -> None:
    mine = chain(**options)
    theirs = copy.deepcopy(mine)
    trained(mine, *LOSSES["smoothed"], "native", optimizer="adamw", weight_decay=0.1)
    own, unknown = by_autograd(theirs, LOSSES["smoothed"][0])
    trained(own, unknown, CLASSES, "torch", optimizer="adamw", weight_decay=0.1)
    same(mine, theirs)


def test_a_loss_that_nobody_knows_between_native_passes() -> None:
    """The chain runs natively forward and back, its loss by autograd."""
    mine, y = chain(), random(ROWS, OUTPUTS, seed=3)
    theirs = copy.deepcopy(mine)
    trained(mine, functional.huber_loss, y, "auto")
    trained(*by_autograd(theirs, functional.huber_loss), y, "torch")
    same(mine, theirs)


def test_many_together_and_a_network_with_a_loss() -> None:
    members = [chain(seed=seed) for seed in range(3)]
    network = hdnn.vector_classifier(2, OUTPUTS, hdnn.h2(4, 3, step=0.3)).double()
    for models in (members, [network]):
        x, y = (each.expand(len(models), *each.shape) for each in (random(ROWS, 2, seed=1), CLASSES))
        ends = []
        for backend in ("native", "torch"):
            copies = copy.deepcopy(models)
            recipe = hdnn.Recipe(epochs=2, batch_size=16)
            seeds = range(len(models))
            hdnn.fit_together(copies, x, y, recipe, functional.cross_entropy, seeds=seeds, backend=backend)
            ends.append(copies)
        for mine, theirs in zip(*ends, strict=True):
            same(mine, theirs)


def test_a_pause_and_the_path_that_a_state_tells_of() -> None:
    states: list[Any] = []
    whole, parted = chain(), chain()
    x, recipe = random(ROWS, 2, seed=1), hdnn.Recipe(epochs=4, batch_size=16)
    loss = functional.cross_entropy
    keep = hdnn.every(epochs=2)(lambda progress: states.append(progress.state()))
    hdnn.fit(whole, x, CLASSES, recipe, loss, callbacks=[keep])
    assert states[0].backend == "native"
    hdnn.fit(parted, x, CLASSES, recipe, loss, resume=states[0])
    for a, b in zip(whole.parameters(), parted.parameters(), strict=True):
        assert torch.equal(a, b)


def hooked() -> nn.Module:
    loss = nn.MSELoss()
    loss.register_forward_hook(lambda *_: None)
    return loss


@pytest.mark.parametrize(
    "loss",
    [
        functional.huber_loss,
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.MSELoss(reduction="none"),
        nn.BCEWithLogitsLoss(),
        partial(functional.cross_entropy, reduction="none"),
        partial(functional.cross_entropy, label_smoothing=2.0),
        partial(functional.mse_loss, reduction="sum"),
        type("Own", (nn.MSELoss,), {})(),
        hooked(),
        lambda output, y: output.mean(),
    ],
    ids=lambda loss: re.sub(" at 0x[0-9a-f]+", "", repr(loss)),
)
def test_others_are_the_users_own(loss: Any) -> None:
    assert losses.known(loss) is None
    chosen = hdnn.training_backend(chain(), random(ROWS, 2), CLASSES, hdnn.Recipe(), loss)
    assert chosen == ("torch", "the loss is the user's own")


@pytest.mark.parametrize(
    ("loss", "y", "why"),
    [
        ("cross_entropy", torch.where(CLASSES == 0, -100, CLASSES), "one class for every sample"),
        ("cross_entropy", CLASSES + 1, "one class for every sample"),
        ("cross_entropy", random(ROWS, OUTPUTS).softmax(1), "one class for every sample"),
        ("mse_loss", random(ROWS, 1), "like the outputs"),
        ("mse_loss", random(ROWS, OUTPUTS).float(), "like the outputs"),
    ],
)
def test_other_targets_are_left_to_pytorch(loss: str, y: Tensor, why: str) -> None:
    backend, reason = hdnn.training_backend(chain(), random(ROWS, 2), y, hdnn.Recipe(), LOSSES[loss][0])
    assert backend == "torch"
    assert why in reason


def test_what_only_looks_like_it_is_left_to_pytorch() -> None:
    recipe, loss = hdnn.Recipe(epochs=1), functional.cross_entropy
    x = random(ROWS, 2)

    class Sub(nn.Sequential):
        pass

    made = chain()
    longer = nn.Sequential(*chain(), nn.ReLU())
    for model in (Sub(*made), longer, nn.Sequential(made[1], made[2]), nn.Sequential(made[0], nn.Tanh(), made[2])):
        assert hdnn.training_backend(model, x, CLASSES, recipe, loss).backend == "torch"
    assert hdnn.training_backend(made, x.float(), CLASSES, recipe, loss).backend == "torch"
    weighed = hdnn.fit(chain(), x, CLASSES, recipe, partial(loss, reduction="none"), sample_weight=torch.rand(ROWS))
    assert len(weighed) == 1
    loader = [(x[:20], CLASSES[:20]), (x[20:], CLASSES[20:])]
    assert hdnn.training_backend(made, loader, None, recipe, loss).reason == "the loss is the user's own"
