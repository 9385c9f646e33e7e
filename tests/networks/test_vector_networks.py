import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import hdnn
from hdnn.activations import ACTIVATIONS
from hdnn.interconnections import INTERCONNECTIONS
from hdnn.networks import (
    PRESETS,
    NetworkConfig,
    ZeroPadding,
    build_network,
    class_probabilities,
    predicted_classes,
)

F64 = torch.float64


def count(network):
    return sum(p.numel() for p in network.parameters())


def randomized(network):
    for p in network.head.parameters():
        nn.init.normal_(p, std=2.0)
    return network


@pytest.mark.parametrize("lift", ["zeros", "linear"])
@pytest.mark.parametrize(("classes", "logits"), [(2, 1), (3, 3), (10, 10)])
def test_a_vector_classifier_is_head_after_flow_after_lift(lift, classes, logits):
    network = randomized(hdnn.vector_classifier(3, classes, hdnn.h2(6, 4, step=0.1, dtype=F64), lift=lift))
    x = torch.randn(5, 3, dtype=F64)
    assert network(x).shape == (5, logits)
    states = network.lift(x)
    if lift == "zeros":
        assert torch.equal(states, torch.cat((x, torch.zeros(5, 3, dtype=F64)), dim=1))
    expected = network.flow(states) @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(network.features(x), network.flow(states))
    ys = network.trajectory(x)
    assert ys.shape == (5, 5, 6)
    torch.testing.assert_close(ys[0], states)
    torch.testing.assert_close(ys[-1], network.features(x))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_probabilities_sum_to_one_and_agree_with_the_prediction(classes):
    torch.manual_seed(0)  # else one class may be said of all
    network = randomized(hdnn.vector_classifier(3, classes, hdnn.h1(4, 3, step=0.2, dtype=F64)))
    x = torch.randn(200, 3, dtype=F64)
    probabilities, said = network.probabilities(x), network.predict(x)
    assert probabilities.shape == (200, classes)
    assert said.dtype == torch.int64
    torch.testing.assert_close(probabilities.sum(1), torch.ones(200, dtype=F64))
    assert torch.equal(probabilities.argmax(1), said)
    assert len(said.unique()) > 1
    output = network(x).detach().numpy()
    if classes == 2:
        expected = 1 / (1 + np.exp(-output[:, 0]))
        np.testing.assert_allclose(probabilities[:, 1].detach().numpy(), expected, rtol=1e-12)
    else:
        expected = np.exp(output) / np.exp(output).sum(1, keepdims=True)
        np.testing.assert_allclose(probabilities.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("logit", [-1e4, -40.0, 40.0, 1e4])
@pytest.mark.parametrize("outputs", [1, 2])
def test_sure_answers_have_finite_probabilities(logit, outputs):
    logits = torch.tensor([[logit]]) if outputs == 1 else torch.tensor([[0.0, logit]])
    probabilities = class_probabilities(logits)
    assert probabilities.isfinite().all()
    assert float(probabilities.sum()) == pytest.approx(1.0)
    assert int(predicted_classes(logits)) == int(logit > 0)


def test_a_fresh_head_is_zero_so_that_nothing_is_preferred():
    network = hdnn.vector_classifier(3, 4, hdnn.h1(4, 3, step=0.2))
    torch.testing.assert_close(network.probabilities(torch.randn(5, 3)), torch.full((5, 4), 0.25))


def test_a_regressor_predicts_its_outputs():
    network = randomized(hdnn.vector_regressor(3, 2, hdnn.h2(4, 3, step=0.2)))
    x = torch.randn(5, 3)
    assert network(x).shape == (5, 2)
    assert torch.equal(network.predict(x), network(x))
    with pytest.raises(ValueError, match="regression network has no class probabilities"):
        network.probabilities(x)


def test_the_papers_mnist_network_has_as_many_parameters_as_by_hand():
    network = hdnn.image_classifier(1, (28, 28), 10, hdnn.h1(8, layers=4, step=0.05, kernel_size=1))
    lift, flow, head = 8 * 9 + 8, 4 * (8 * 8 + 8), 28 * 28 * 8 * 10 + 10
    assert count(network) == lift + flow + head == 63_098
    images = torch.randn(3, 1, 28, 28)
    assert network(images).shape == (3, 10)
    assert network.features(images).shape == (3, 6272)
    assert network.trajectory(images).shape == (5, 3, 8, 28, 28)
    expected = nn.functional.conv2d(images, network.lift.weight, network.lift.bias, padding=1)
    torch.testing.assert_close(network.lift(images), expected)


def test_the_pointwise_flow_treats_every_pixel_alike():
    flow = hdnn.h1(8, layers=4, step=0.3, kernel_size=1, dtype=F64)
    vectors = hdnn.h1(8, layers=4, step=0.3, dtype=F64)
    with torch.no_grad():
        vectors.weight.copy_(flow.weight.reshape(vectors.weight.shape))
        vectors.bias.copy_(flow.bias)
    images = torch.randn(2, 8, 3, 5, dtype=F64)
    torch.testing.assert_close(flow(images), vectors(images.movedim(1, -1)).movedim(-1, 1))


def test_lift_and_head_stand_where_the_flow_stands():
    flow = hdnn.h1(4, 2, step=0.1, device="meta", dtype=F64)
    for network in (hdnn.vector_classifier(2, 3, flow, lift="linear"), hdnn.vector_regressor(2, 1, flow)):
        assert {(str(p.device), p.dtype) for p in network.parameters()} == {("meta", F64)}
    images = hdnn.h1(4, 2, step=0.1, kernel_size=3, device="meta", dtype=F64)
    assert {str(p.device) for p in hdnn.image_classifier(1, (4, 4), 3, images).parameters()} == {"meta"}


@pytest.mark.parametrize(("inputs", "features"), [(5, 4), (3, 2)])
def test_zeros_cannot_shrink_a_vector(inputs, features):
    with pytest.raises(
        ValueError, match=rf'{inputs} inputs do not fit into {features} features.*features=\d.*lift="li'
    ):
        hdnn.vector_classifier(inputs, 2, hdnn.h1(features, 1, step=0.1))
    assert ZeroPadding(4, 4).extra_repr() == "4, 4"


def test_padding_does_not_take_vectors_of_another_length_in_silence():
    network = hdnn.vector_classifier(3, 2, hdnn.h1(6, 1, step=0.1))
    for size in (2, 4, 6):
        with pytest.raises(ValueError, match=rf"\(\.\.\., 3\); got \(5, {size}\)"):
            network(torch.randn(5, size))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: hdnn.vector_classifier(2, 1, hdnn.h1(4, 1, step=0.1)), "at least two classes; got 1"),
        (
            lambda: hdnn.vector_classifier(2, 2, hdnn.h1(4, 1, step=0.1, kernel_size=1)),
            r"one on `Images\(kernel",
        ),
        (
            lambda: hdnn.vector_regressor(2, 2, hdnn.h1(4, 1, step=0.1, kernel_size=3)),
            r"one on `Images\(kernel",
        ),
        (lambda: hdnn.image_classifier(1, (4, 4), 3, hdnn.h1(4, 1, step=0.1)), "kernel_size=1"),
        (lambda: hdnn.image_classifier(1, (4, 4), 0, hdnn.h1(4, 1, step=0.1, kernel_size=1)), "got 0"),
        (lambda: hdnn.vector_classifier(2, 2, hdnn.h1(4, 1, step=0.1), lift="copy"), "'copy'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, word):
    with pytest.raises(ValueError, match=word):
        make()


# Configurations

BASE = NetworkConfig("classification", (3,), 4, model="h1", features=6, layers=3, step=0.2)


def test_the_names_are_those_of_the_library():
    assert set(PRESETS) == {"ms1", "ms2", "ms3", "h1", "h2"}
    for name, activation in ACTIVATIONS.items():
        assert getattr(hdnn, name) is activation
    for name, J in INTERCONNECTIONS.items():
        assert getattr(hdnn, name) is J


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"model": "ms1"},
        {"model": "ms2", "features": 7},
        {"model": "ms3"},
        {"model": "h2", "width": 5 * 2},
        {"interconnection": "upper_ones", "activation": "relu"},
        {"lift": "linear", "features": 2},
        {"shared": True},
        {"layers": 0},
        {"task": "regression", "outputs": 2},
        {"inputs": (2, 5, 6), "kernel_size": 1},
        {"inputs": (2, 5, 6), "kernel_size": 3, "outputs": 2},
    ],
)
def test_a_built_network_is_what_its_configuration_says(choices):
    config = dataclasses.replace(BASE, **choices)
    network = build_network(config)
    x = torch.randn(5, *config.inputs)
    two = config.task == "classification" and config.outputs == 2
    assert network(x).shape == (5, 1 if two else config.outputs)
    flow = network.flow
    assert (flow.features, flow.layers, flow.step) == (config.features, config.layers, config.step)
    assert (flow.kernel_size, flow.shared) == (config.kernel_size, config.shared)
    assert flow.activation is ACTIVATIONS[config.activation]
    assert network.task == config.task
    other = build_network(config)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))
    meta = build_network(config, device="meta")
    assert {n: v.shape for n, v in meta.state_dict().items()} == {n: v.shape for n, v in network.state_dict().items()}


def test_the_interconnection_is_the_one_that_is_named():
    J = build_network(dataclasses.replace(BASE, interconnection="upper_ones")).flow.J
    assert torch.equal(J, hdnn.upper_ones(6).to(J.dtype))
    J = build_network(BASE).flow.J
    assert torch.equal(J, hdnn.canonical(6).to(J.dtype))


def test_initial_weights_have_the_deviation_that_is_asked_for():
    assert float(build_network(BASE, init_std=0.0).flow.weight.detach().abs().max()) == 0.0
    wide = build_network(dataclasses.replace(BASE, features=32, layers=8), init_std=2.0)
    assert float(wide.flow.weight.detach().std()) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"model": "h3"}, "no model 'h3'. Did you mean 'h"),
        ({"model": ""}, "no model ''"),
        ({"activation": "tahn"}, "no activation 'tahn'. Did you mean 'tanh'"),
        ({"interconnection": "cannonical"}, "no interconnection 'cannonical'. Did you mean 'canonical'"),
        ({"model": "ms1", "interconnection": "canonical"}, "`ms1` fixes its interconnection"),
        ({"model": "ms3", "width": 8}, "`ms3` fixes its width; got 8"),
        ({"inputs": ()}, r"\(d,\), \(T, d\) or \(C, H, W\)"),
        ({"inputs": (3, 4, 5, 6)}, r"got \(3, 4, 5, 6\)"),
        ({"inputs": (0,)}, r"got \(0,\)"),
        ({"inputs": (1, 8, 8)}, "Images need a `kernel_size`"),
        ({"kernel_size": 3}, "vectors none"),
        ({"layers": 10**9}, "`layers` may be at most 100,000; got 1,000,000,000"),
        ({"features": 10**6}, "`features` may be at most"),
        ({"width": 10**9}, "`width` may be at most"),
        ({"inputs": (1, 8, 8), "kernel_size": 1001}, "`kernel_size` may be at most"),
        ({"features": 2048, "layers": 10_000}, "Use fewer layers or features"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(choices, word):
    with pytest.raises(ValueError, match=word):
        dataclasses.replace(BASE, **choices)


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"features": 0}, "features"),
        ({"features": 2048, "lift": "linear", "model": "h2", "width": 0}, "width"),
        ({"layers": -1}, "layers"),
        ({"step": 0.0}, "step"),
        ({"step": float("nan")}, "step"),
        ({"step": -0.1}, "step"),
        ({"features": 7, "model": "h2"}, "even"),
        ({"features": 7, "model": "ms1"}, "even"),
        ({"features": 7, "model": "ms3"}, "even"),
        ({"features": 2}, "3 inputs do not fit"),
        ({"outputs": 1}, "two classes"),
        ({"lift": "copy"}, "copy"),
        ({"inputs": (1, 8, 8), "kernel_size": 2}, "odd"),
        ({"task": "regression", "inputs": (1, 8, 8), "kernel_size": 1}, "flow of vectors"),
    ],
)
def test_what_the_parts_refuse_building_refuses(choices, word):
    with pytest.raises(ValueError, match=word):
        build_network(dataclasses.replace(BASE, **choices))


@pytest.mark.parametrize(
    ("options", "names"), [({"inputs": 2}, "`inputs`"), ({"inputs": 2, "kernel_size": 1}, "`inputs`")]
)
def test_networks_are_made_of_flows_that_a_state_alone_is_given_to(options, names):
    flow = hdnn.h2(8, 3, step=0.1, **options)
    makers = [lambda: hdnn.vector_classifier(8, 3, flow), lambda: hdnn.vector_regressor(8, 3, flow)]
    for make in makers if flow.kernel_size is None else [lambda: hdnn.image_classifier(1, (4, 4), 3, flow)]:
        with pytest.raises(ValueError, match=f"every call of this flow brings {names}. Write a module that calls it"):
            make()


@pytest.mark.parametrize("shape", [(2,), (5, 3, 2)])
@pytest.mark.parametrize("lift", ["zeros", "linear"])
def test_inputs_are_a_batch(shape, lift):
    network = hdnn.vector_classifier(2, 3, hdnn.h2(4, 2, step=0.1), lift=lift)
    with pytest.raises(ValueError, match=r"takes 4 numbers of each sample, .* a single one as x\[None\]"):
        network(torch.zeros(shape))
    assert network(torch.zeros(2)[None]).shape == (1, 3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 1, 8, 7)])
def test_images_are_a_batch_of_the_size_that_was_named(shape):
    network = hdnn.image_classifier(1, (8, 8), 3, hdnn.h2(4, 2, step=0.1, kernel_size=3))
    with pytest.raises(ValueError, match="takes 256 numbers of each sample"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("head", [lambda: torch.nn.LazyLinear(3), lambda: torch.nn.Sequential(torch.nn.Linear(4, 3))])
def test_output_layers_that_name_no_size(head):
    network = hdnn.vector_classifier(2, 3, hdnn.h2(4, 2, step=0.1))
    network.head = head()
    with pytest.raises(ValueError, match="takes a batch of samples, and the states"):
        network(torch.zeros(2))
    assert network(torch.zeros(40, 2)).shape == (40, 3)
