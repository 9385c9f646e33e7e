"""Whoever reads a network does so in evaluation mode, moves no statistics, and leaves every module's mode as it was."""

import copy

import pytest
import torch
from torch import nn

import hdnn
from hdnn.modes import evaluating, training
from hdnn.training import Recipe, SensitivityRecorder, outputs

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def make() -> hdnn.Network:
    """A network with everything that has two modes, one part of it in the other."""
    torch.manual_seed(0)
    lift = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    network = hdnn.Network(lift, hdnn.h2(6, 3, horizon=1.0), nn.Linear(6, 1), "classification")
    lift[1].eval()
    return network


def modes(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


def recorded(network: hdnn.Network) -> torch.Tensor:
    blocks = [network.lift, network.flow]
    return torch.from_numpy(SensitivityRecorder(blocks, X).mean)


READERS = {
    "evaluate": lambda network: torch.tensor(list(hdnn.evaluate(network, X, Y).values())),
    "outputs": lambda network: outputs(network, X),
    "predict": lambda network: network.predict(X),
    "probabilities": lambda network: network.probabilities(X),
    "trajectory": lambda network: network.trajectory(X),
    "sensitivities": lambda network: hdnn.analysis.sensitivities([network.lift, network.flow], X)[0],
    "gradients": lambda network: hdnn.analysis.gradients([network.lift, network.flow], X, torch.sum).state_norms,
    "recorder": recorded,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_reading_is_in_evaluation_mode_and_leaves_no_trace(read) -> None:
    network = make()
    expected = read(copy.deepcopy(network).eval())
    before, state = modes(network), copy.deepcopy(network.state_dict())
    with torch.no_grad():
        first, second = read(network), read(network)
    assert modes(network) == before
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(first, expected.detach())
    assert torch.equal(second, first)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_fit_trains_in_training_mode_validates_in_the_other_and_gives_the_modes_back(mode, method) -> None:
    network = make().train(mode)
    network.lift[2].train(not mode)
    before = modes(network)
    seen = []
    network.lift[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    recipe = Recipe(epochs=2, batch_size=20, method=method, validation_fraction=0.3, head_epochs=1, head_steps=1)
    told = []
    hdnn.fit(network, X, Y, recipe, callbacks=[lambda progress: told.append(all(modes(network)))])
    assert all(told)
    assert set(seen) == {True, False}, "training steps and validation"
    assert modes(network) == before
    assert bool((network.lift[1].running_mean != 0).any())


def test_validation_of_the_same_weights_is_the_same() -> None:
    network = make()
    recipe = Recipe(epochs=1, batch_size=30)
    [record] = hdnn.fit(network, X, Y, recipe, validation=(X, Y))
    assert record["validation_loss"] == hdnn.evaluate(network, X, Y)["loss"]


def test_modes_come_back_after_an_error_too() -> None:
    network = make()
    before = modes(network)
    for enter in (evaluating, training):
        with pytest.raises(RuntimeError, match="within"), enter(network, "no module"):
            raise RuntimeError("within")
        assert modes(network) == before


def test_a_module_may_overrule_its_mode() -> None:
    class Kept(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> "Kept":
            return super().train(False)

    network = make()
    network.lift[1] = Kept(6)
    hdnn.fit(network, X, Y, Recipe(epochs=1))
    assert not bool(network.lift[1].running_mean.any())
