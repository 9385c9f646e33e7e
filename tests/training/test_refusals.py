"""What cannot be trained is refused in words before the first step, and nothing is changed."""

import copy

import pytest
import torch
from torch import nn

import hdnn
from hdnn.training import Recipe

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
SHORT = Recipe(epochs=1)
STARTS = Recipe(epochs=1, batch_size=25, restarts=2, restart_epochs=1)
ALTERNATING = Recipe(epochs=1, method="alternating", head_epochs=1)


def net(lift: nn.Module | None = None, flow: nn.Module | None = None, head: nn.Module | None = None) -> hdnn.Network:
    parts = lift or nn.Linear(4, 6), flow or hdnn.h1(6, 4, horizon=1.0), head or nn.Linear(6, 1)
    return hdnn.Network(*parts, "classification")


def frozen(network: hdnn.Network, *parts: str) -> hdnn.Network:
    for part in parts:
        network.get_submodule(part).requires_grad_(False)
    return network


def made_in_inference_mode() -> hdnn.Network:
    with torch.inference_mode():
        return net()


def fit_under(context) -> None:
    with context:
        hdnn.fit(net(), X, Y, SHORT)


CASES = {
    "no_grad": (lambda: fit_under(torch.no_grad()), "Training needs gradients"),
    "inference mode": (lambda: fit_under(torch.inference_mode()), "Training needs gradients"),
    "inference weights": (lambda: hdnn.fit(made_in_inference_mode(), X, Y, SHORT), "made under `torch.inference_mode"),
    "all frozen": (lambda: hdnn.fit(frozen(net(), ""), X, Y, SHORT), "All parameters are frozen"),
    "alternating, frozen head": (lambda: hdnn.fit(frozen(net(), "head"), X, Y, ALTERNATING), "head.weight"),
    "alternating, frozen flow": (lambda: hdnn.fit(frozen(net(), "lift", "flow"), X, Y, ALTERNATING), "lift and flow"),
    "smoothness without a flow": (
        lambda: hdnn.fit(net(flow=nn.Sequential(nn.Linear(6, 6))), X, Y, Recipe(epochs=1, smoothness=1e-3)),
        "`smoothness` weighs how much neighbouring layers.*penalties=",
    ),
    "two layers in the head": (lambda: hdnn.fit(net(head=nn.Sequential(nn.Linear(6, 1))), X, Y, SHORT), "one linear"),
    "BatchNorm in starts": (
        lambda: hdnn.fit(net(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))), X, Y, STARTS),
        "cannot train together.*BatchNorm",
    ),
    "Dropout in starts": (
        lambda: hdnn.fit(net(nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.1))), X, Y, STARTS),
        "cannot train together.*Dropout",
    ),
    "Dropout together": (
        lambda: hdnn.fit_together(
            [net(nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.1)))], X[None], Y[None], SHORT, seeds=[0]
        ),
        "cannot train together",
    ),
    "starts that are one": (lambda: hdnn.fit(frozen(net(), "lift", "flow"), X, Y, STARTS), "all starts would be one"),
}


@pytest.mark.parametrize(("call", "words"), CASES.values(), ids=CASES)
def test_it_is_a_value_error_in_words(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda module: hdnn.fit(module, X, Y, SHORT),
        lambda module: hdnn.evaluate(module, X, Y),
        lambda module: hdnn.fit_together([module], X[None], Y[None], SHORT, seeds=[0]),
        hdnn.Objective,
    ],
)
@pytest.mark.parametrize("module", [nn.Sequential(nn.Linear(4, 6), hdnn.h2(6, 2, step=0.1)), hdnn.h2(4, 2, step=0.1)])
def test_other_modules_without_a_loss_are_told_the_usual_ones(call, module) -> None:
    words = rf"{type(module).__name__} does not say what.*cross_entropy.*mse_loss.*with_logits.*vector_classifier"
    with pytest.raises(TypeError, match=words):
        call(module)


def test_arrays_are_told_how_to_become_tensors() -> None:
    with pytest.raises(TypeError, match=r"Inputs must be a tensor; got ndarray"):
        hdnn.fit(net(), X.numpy(), Y, SHORT)
    with pytest.raises(TypeError, match=r"Targets must be a tensor; got list"):
        hdnn.fit(net(), X, Y.tolist(), SHORT)


def test_a_refusal_of_the_lift_is_its_own() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        hdnn.fit(net(nn.Linear(5, 6)), X, Y, STARTS)


def test_inputs_made_in_inference_mode_can_be_learned_from() -> None:
    with torch.inference_mode():
        x = X * 1
    assert len(hdnn.fit(net(), x, Y, SHORT)) == 1


@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_a_head_needs_no_bias(method) -> None:
    network = net(head=nn.Linear(6, 1, bias=False))
    recipe = Recipe(
        epochs=2, batch_size=25, method=method, head_epochs=1, head_decay=1e-3, restarts=2, restart_epochs=1
    )
    assert len(hdnn.fit(network, X, Y, recipe)) == 2


# Starts and what is frozen


@pytest.mark.parametrize("part", ["lift", "flow.bias", "head.weight", "flow.weight"])
def test_what_is_frozen_stays_through_all_starts(part) -> None:
    network = net()
    kept = [p for name, p in network.named_parameters() if name.startswith(part)]
    for p in kept:
        p.requires_grad_(False)
    before = [p.clone() for p in kept]
    hdnn.fit(network, X, Y, Recipe(epochs=1, batch_size=25, restarts=4, restart_epochs=2))
    assert all(torch.equal(p, old) for p, old in zip(kept, before, strict=True))


def test_starts_differ_in_every_flow_or_are_refused() -> None:
    class Stubborn(hdnn.Flow):
        def reset_parameters(self) -> None:
            if not hasattr(self, "done"):
                super().reset_parameters()
                self.done = True

    flow = hdnn.h1(6, 4, horizon=1.0)
    flow.__class__ = Stubborn
    flow.done = True
    with pytest.raises(ValueError, match=r"does not reach flow\.weight, so all starts would be one"):
        hdnn.fit(net(flow=flow), X, Y, STARTS)
    seen = []
    hdnn.fit(net(), X, Y, STARTS, start_callbacks=[lambda progress: seen.append(progress.state().starts.weights)])
    for name in ("lift.weight", "flow.weight", "flow.bias"):
        assert not torch.equal(*seen[0][name])


def test_refusals_change_nothing() -> None:
    network = frozen(net(), "head")
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="alternating"):
        hdnn.fit(network, X, Y, ALTERNATING)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.head.weight.requires_grad
