"""What the native training step cannot do has a reason, and what it would misread is refused."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from families import F64
from hdnn import presets
from hdnn.kernels import native, training
from hdnn.networks import Network, image_classifier, vector_classifier
from hdnn.training.fused import why_not
from hdnn.training.recipe import Recipe
from native_cases import Fused

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")


def refusals() -> dict[str, tuple[Network, Recipe, str]]:
    def network(**choices: object) -> Network:
        return vector_classifier(2, 2, presets.h1(4, 3, step=0.1, **choices))  # type: ignore[arg-type]

    class Mine(Network):
        pass

    plain, recipe = network(), Recipe()
    mine = Mine(plain.lift, plain.flow, plain.head, plain.task)
    hooked = network()
    hooked.flow.register_forward_hook(lambda *_: None)
    tied = vector_classifier(4, 4, presets.h1(4, 3, step=0.1), lift="linear")
    tied.head.weight = tied.lift.weight  # type: ignore[assignment]
    images = image_classifier(1, (4, 4), 2, presets.h1(4, 3, step=0.1, kernel_size=1))
    images.lift = nn.Conv2d(1, 4, 5, padding=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rounding
        half = copy.deepcopy(plain).bfloat16()
    deep = network()
    deep.lift = nn.Sequential(nn.Linear(2, 4), nn.Tanh())
    return {
        "alternating": (plain, Recipe(method="alternating"), "alternating"),
        "lbfgs": (plain, Recipe(optimizer="lbfgs"), "L-BFGS"),
        "half": (half, recipe, "bfloat16"),
        "meta": (network(device="meta"), recipe, "meta"),
        "eager": (network(backend="eager"), recipe, "eager"),
        "store": (network(memory="store"), recipe, "store"),
        "subclass": (mine, recipe, "Mine"),
        "hook": (hooked, recipe, "hooks"),
        "tied": (tied, recipe, "tied"),
        "images": (images, recipe, "convolution"),
        "lift": (deep, recipe, "Sequential"),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_it_cannot_train_has_a_reason(name: str) -> None:
    network, recipe, word = refusals()[name]
    assert word in why_not(network, recipe)


def test_autocast_is_a_reason() -> None:
    network = vector_classifier(2, 2, presets.h1(4, 3, step=0.1))
    assert why_not(network, Recipe()) == ""
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in why_not(network, Recipe())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order", lambda value: value + 1),
        ("y", lambda value: value + 1),
        ("x", lambda value: value[..., :1]),
        ("x", lambda value: value.float()),
        ("bounds", lambda value: torch.tensor([0, 0, 7])),
        ("bounds", lambda value: torch.tensor([0, 99])),
        ("sample_weight", lambda value: torch.ones(2, 3, dtype=F64)),
    ],
)
def test_what_would_be_misread_is_refused(name: str, change: object) -> None:
    network = vector_classifier(2, 2, presets.h1(4, 3, step=0.1, dtype=F64))
    run = Fused([network], Recipe())
    before = run.trainees.parameters.clone()
    arrays: dict[str, Tensor | None] = {
        "x": torch.randn(1, 7, 2, dtype=F64),
        "y": torch.randint(2, (1, 7)) * 0 + 1,
        "order": torch.arange(7)[None],
        "bounds": torch.tensor([0, 3, 7]),
        "sample_weight": None,
    }
    arrays[name] = change(arrays[name])  # type: ignore[operator]
    rates = torch.full((len(arrays["bounds"]) - 1,), 0.1, dtype=F64)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"`{name}`"):
        training.train(run.setup, run.trainees, rates=rates, **arrays)  # type: ignore[arg-type]
    assert torch.equal(run.trainees.parameters, before)
