"""What the tests of the backends of trainings share: networks, data, a recipe, and comparisons."""

import pytest
import torch

import hdnn
from hdnn.kernels import native
from hdnn.training import Recipe

needs_native = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")

F64 = torch.float64
X = torch.randn(61, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.05, seed=3)
BACKENDS = ["native", "torch"]
Y = (X[:, 0] > 0).long()


def network_of(outputs=2, *, task="classification", lift="linear", seed=1, dtype=F64, model=hdnn.h2, **choices):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow = model(4, choices.pop("layers", 3), horizon=1.0, dtype=dtype, **choices)
        make = hdnn.vector_classifier if task == "classification" else hdnn.vector_regressor
        network = make(3, outputs, flow, lift=lift)
        torch.nn.init.normal_(network.head.weight, std=0.3)
        return network


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def distance(ours, theirs):
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def same(ours, theirs):
    return [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def without_times(history):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]
