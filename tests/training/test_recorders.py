"""What recorders keep is what independent derivatives say, and training does not notice them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import hdnn
from hdnn.analysis import norms, sensitivities
from hdnn.networks import ZeroPadding
from hdnn.training import GradientRecorder, Objective, Progress, Recipe, SensitivityRecorder, fit

F64 = torch.float64
RECIPE = Recipe(epochs=3, batch_size=25, learning_rate=0.05, schedule="constant")


def data(rows=100, seed=0):
    x = torch.randn(rows, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def network_of(kind="h2", layers=3, **choices):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if kind == "mlp":
            flow = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(layers)])
            return hdnn.Network(ZeroPadding(2, 4), flow, nn.Linear(4, 1), "classification").to(F64)
        flow = getattr(hdnn, kind)(4, layers, horizon=1.0, dtype=F64, **choices)
        return hdnn.vector_classifier(2, 2, flow)


class Snapshots:
    """A callback that keeps the network of every iteration."""

    def __init__(self, network):
        self.network, self.kept = network, [copy.deepcopy(network)]

    def __call__(self, progress):
        assert progress.iteration == len(self.kept)
        self.kept.append(copy.deepcopy(self.network))


def layers_of(network):
    """Every layer of a network as a function."""
    flow = network.flow
    return [flow[j] for j in range(flow.layers)] if isinstance(flow, hdnn.Flow) else list(flow)


def norms_by_jacrev(network, y0, j):
    """‖∂y_N/∂y_j‖₂ of every sample, by reverse-mode differentiation of the layers from j on."""
    layers = layers_of(network)
    for layer in layers[:j]:
        y0 = layer(y0).detach()

    def tail(y):
        for layer in layers[j:]:
            y = layer(y.unsqueeze(0)).squeeze(0)
        return y

    return [float(torch.linalg.svdvals(torch.func.jacrev(tail)(y).detach())[0]) for y in y0]


@pytest.mark.parametrize("kind", ["h1", "h2", "ms1", "mlp"])
def test_norms_are_those_of_every_sample_at_every_iteration(kind):
    network, (x, y) = network_of(kind), data()
    y0 = network.lift(x[:4])
    recorder, snapshots = SensitivityRecorder(network.flow, y0, every=5, layers=[2, 0]), Snapshots(network)
    fit(network, x, y, RECIPE, callbacks=[recorder, snapshots])
    np.testing.assert_array_equal(recorder.iterations, [0, 5, 10])
    for row, iteration in enumerate(recorder.iterations):
        for column, j in enumerate(recorder.layers):
            found = norms_by_jacrev(snapshots.kept[iteration], y0, j)
            expected = min(found), sum(found) / len(found), max(found)
            recorded = recorder.minimum[row, column], recorder.mean[row, column], recorder.maximum[row, column]
            assert recorded == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("layers", "expected"), [(3, (0, 1, 2, 3)), (64, (0, 8, 16, 24, 32, 40, 48, 56, 64))])
def test_depths_are_spread_evenly_unless_they_are_named(layers, expected):
    network = network_of(layers=layers)
    assert SensitivityRecorder(network.flow, network.lift(data(3)[0])).layers == expected


def test_an_image_counts_as_one_sample_and_its_norm_is_that_of_the_whole_matrix():
    flow = hdnn.h1(2, 3, horizon=1.0, kernel_size=1, dtype=F64)
    images = torch.randn(3, 2, 2, 3, dtype=F64)
    recorder = SensitivityRecorder(flow, images, layers=[0])
    whole = norms(sensitivities(flow, images)[0])
    assert whole.shape == (3,)
    assert recorder.mean[0, 0] == pytest.approx(float(whole.mean()), rel=1e-12)
    assert recorder.minimum[0, 0] == pytest.approx(float(whole.min()), rel=1e-12)


@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_training_is_the_same_bit_for_bit(method):
    recipe = Recipe(epochs=2, batch_size=25, method=method, head_epochs=1)
    plain, watched = network_of(), network_of()
    x, y = data()
    fit(plain, x, y, recipe)
    callbacks = [SensitivityRecorder(watched.flow, watched.lift(x[:5])), GradientRecorder(watched.flow)]
    state = torch.get_rng_state()
    fit(watched, x, y, recipe, callbacks=callbacks)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_gradients_are_those_of_the_objective_layer_by_layer():
    network, (x, y) = network_of(), data()
    network.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(network)
    recorder = GradientRecorder(network.flow)
    fit(network, x, y, Recipe(epochs=1, batch_size=len(x), smoothness=0.1), callbacks=[recorder])
    loss, _ = Objective(before, smoothness=0.1)(x, y)
    loss.backward()
    gradients = zip(before.flow.weight.grad, before.flow.bias.grad, strict=True)
    expected = [float((K.square().sum() + b.square().sum()).sqrt()) for K, b in gradients]
    np.testing.assert_array_equal(recorder.iterations, [1])
    np.testing.assert_allclose(recorder.norms, [expected], rtol=1e-10)


def test_gradients_of_modules_and_of_shared_weights():
    x, y = data()
    network = network_of("mlp")
    recorder = GradientRecorder(network.flow, every=2)
    fit(network, x, y, RECIPE, callbacks=[recorder])
    last = [float(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()) for layer in network.flow]
    np.testing.assert_array_equal(recorder.iterations, [2, 4, 6, 8, 10, 12])
    np.testing.assert_allclose(recorder.norms[-1], last)
    shared = network_of(shared=True)
    recorder = GradientRecorder(shared.flow)
    fit(shared, x, y, RECIPE, callbacks=[recorder])
    assert recorder.norms.shape == (12, 1)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_clipped_gradients_are_recorded_as_the_optimizer_sees_them(optimizer):
    network, (x, y) = network_of(), data()
    recipe = Recipe(epochs=2, optimizer=optimizer, clip=1e-3 if optimizer == "adam" else None)
    recorder = GradientRecorder(network.flow)
    fit(network, x, y, recipe, callbacks=[recorder])
    assert recorder.norms.shape == (2, 3)
    if optimizer == "adam":
        assert np.linalg.norm(recorder.norms, axis=1).max() <= 1e-3 * (1 + 1e-6)


def test_before_anything_is_recorded_there_are_no_gradients():
    recorder = GradientRecorder(network_of().flow)
    assert recorder.iterations.shape == (0,)
    assert recorder.norms.size == 0


@pytest.mark.parametrize("every", [0, -1, 2.5])
def test_an_interval_that_makes_no_sense(every):
    network = network_of()
    for make in (lambda: SensitivityRecorder(network.flow, torch.zeros(1, 4, dtype=F64), every=every),
                 lambda: GradientRecorder(network.flow, every=every)):  # fmt: skip
        with pytest.raises(ValueError, match=f"`every`.*got {every}"):
            make()


@pytest.mark.parametrize("layers", [[], [4], [-1]])
def test_depths_that_are_not_there(layers):
    network = network_of()
    with pytest.raises(ValueError, match="j = 0 to N = 3"):
        SensitivityRecorder(network.flow, network.lift(data(3)[0]), layers=layers)


def test_states_that_do_not_fit_are_refused_before_training():
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\)"):
        SensitivityRecorder(network_of().flow, data(3)[0])


def test_a_step_that_leaves_no_gradient():
    network, other = network_of(), network_of()
    x, y = data()
    with pytest.raises(ValueError, match="no gradient"):
        fit(network, x, y, RECIPE, callbacks=[GradientRecorder(other.flow)])
    with pytest.raises(TypeError, match="Layer 0 must be a module"):
        GradientRecorder([torch.tanh])


def test_divergence_is_the_error_that_training_itself_would_raise():
    network, (x, y) = network_of(), data()
    recorder = SensitivityRecorder(network.flow, network.lift(x[:3]))

    def ruin(progress):
        if progress.iteration == 2:
            network.flow.weight.data.fill_(torch.nan)

    with pytest.raises(FloatingPointError, match=r"After iteration 2: `flow.weight` has NaN"):
        fit(network, x, y, RECIPE, callbacks=[ruin, recorder])


def test_iterations_count_through_epochs():
    progress = Progress(epoch=3, epochs=5, batch=2, batches=10, loss=torch.zeros(()), record=None)
    assert progress.iteration == 22
