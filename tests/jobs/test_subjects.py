"""What is analysed: the flow of a run at its test samples, or a fresh one; how large it may be."""

import sys

import pytest
import torch

import hdnn
from hdnn.data import digits
from hdnn.jobs import Choices, Source, train, trained, untrained
from hdnn.jobs.subjects import of_vectors
from hdnn.runs import Run
from samples import flowers, mnist_like

F64 = torch.float64
SMALL = Choices(layers=3, epochs=1, batch_size=50)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Without pictures, which take most of the time of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["hdnn.jobs.task"], "write_summary", lambda run, *results: None)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    flowers().to_csv(folder / "flowers.csv", index=False)
    sources = {
        "digits": Source("digits"),
        "images": Source("mnist", folder=str(mnist_like(folder / "mnist"))),
        "flowers": Source(str(folder / "flowers.csv"), target="kind"),
    }
    for name, source in sources.items():
        train(source, SMALL, folder / name)
    return folder


def test_the_states_are_lifted_test_samples_and_the_flow_is_that_of_the_run(runs):
    subject = trained(runs / "digits", samples=7, seed=3)
    network = Run.open(runs / "digits").load_network().double()
    x = torch.from_numpy(digits(0).x_test).double()
    rows = [int((network.lift(x) - y).abs().sum(-1).argmin()) for y in subject.y0]
    assert len(set(rows)) == 7
    torch.testing.assert_close(subject.y0, network.lift(x[rows]), rtol=0, atol=0)
    torch.testing.assert_close(subject.flow(subject.y0), network.flow(subject.y0), rtol=0, atol=0)
    assert subject.flow.weight.dtype is F64


def test_gradients_are_those_of_the_loss_on_the_same_samples(runs):
    subject = trained(runs / "digits", samples=7)
    network = Run.open(runs / "digits").load_network().double()
    x, y = torch.from_numpy(digits(0).x_test).double(), torch.from_numpy(digits(0).y_test)
    rows = [int((network.lift(x) - state).abs().sum(-1).argmin()) for state in subject.y0]
    loss = torch.nn.functional.cross_entropy(network(x[rows]), y[rows])
    loss.backward()
    found = subject.gradients()
    assert found.loss == pytest.approx(float(loss.detach()))
    expected = network.flow.weight.grad.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.parameter_norms["weight"], expected)


def test_the_seed_chooses_the_samples(runs):
    first, again, other = (trained(runs / "flowers", samples=5, seed=seed).y0 for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_there_are_never_more_samples_than_test_rows(runs):
    assert len(trained(runs / "images", samples=10**6).y0) == 20 * 8 * 8  # pixels
    assert len(trained(runs / "flowers", samples=10**6).y0) == 24


def test_pointwise_flows_are_seen_at_single_pixels(runs):
    subject = trained(runs / "images", samples=6)
    network = Run.open(runs / "images").load_network().double()
    assert subject.flow.kernel_size is None
    assert subject.y0.shape == (6, 8)
    assert "single pixels" in subject.notes[0]
    assert subject.gradients().states[0].shape == (6, 8, 8, 8)
    images = torch.randn(2, 8, 3, 3, dtype=F64)
    pixels = subject.flow(images.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(pixels, network.flow(images), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("preset", ["ms1", "ms2", "ms3", "h1", "h2"])
def test_every_pointwise_preset_can_be_seen_as_vectors(preset, shared):
    flow = getattr(hdnn, preset)(4, 3, step=0.3, kernel_size=1, shared=shared, dtype=F64)
    images = torch.randn(2, 4, 2, 3, dtype=F64)
    vectors = of_vectors(flow)
    torch.testing.assert_close(vectors(images.movedim(1, -1)).movedim(-1, 1), flow(images), rtol=1e-13, atol=1e-13)


def test_a_run_whose_data_have_changed_is_refused(runs, tmp_path):
    frame = flowers()
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    train(Source(str(path), target="kind"), SMALL, tmp_path / "run")
    frame["length"] *= 3
    frame.to_csv(path, index=False)
    with pytest.raises(ValueError, match="has changed since"):
        trained(tmp_path / "run")


def test_every_choice_reaches_the_fresh_flow():
    subject = untrained(
        "h1",
        layers=5,
        features=6,
        horizon=2.0,
        activation="relu",
        interconnection="upper_ones",
        width=7,
        shared=True,
        init_std=0.0,
        samples=3,
    )
    flow = subject.flow
    assert (flow.layers, flow.features, flow.step, flow.shared) == (5, 6, 0.4, True)
    assert flow.K.shape == (1, 7, 6)
    assert not flow.weight.any()
    assert flow.activation == hdnn.relu
    torch.testing.assert_close(flow.J, hdnn.upper_ones(6, dtype=F64))
    assert subject.y0.shape == (3, 6)
    assert untrained("h2").flow.step == 0.1


def test_weights_and_states_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = untrained("h2", seed=4)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = untrained("h2", seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.flow.weight, second.flow.weight)
    assert torch.equal(first.y0, second.y0)
    assert not torch.equal(first.y0, untrained("h2", seed=5).y0)


def test_large_states_get_fewer_samples_and_larger_ones_no_matrices():
    small, large, huge = (untrained("h2", layers=4, features=n, samples=500) for n in (4, 256, 2048))
    assert (len(small.y0), small.notes, small.has_matrices) == (500, [], True)
    assert 4 <= len(large.y0) < 500
    assert f"{len(large.y0)} used" in large.notes[0]
    assert large.has_matrices
    assert (len(huge.y0), huge.has_matrices) == (4, False)


def test_depths_beyond_all_measure_are_left_out():
    subject = untrained("h2", layers=300, step=1.0, init_std=1.0, activation="identity", samples=3)
    assert 0 < subject.first < 300
    assert subject.depths[0] == subject.first
    assert subject.depths[-1] == 300
    assert len(subject.depths) <= 65
    assert subject.sensitivities.isfinite().all()
    assert float(subject.sensitivities.abs().max()) <= 1e70


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"model": "h3"}, "Did you mean"),
        ({"layers": 0}, "identity"),
        ({"layers": -1}, "`layers`"),
        ({"features": 5}, "even"),
        ({"step": 0.1, "horizon": 1.0}, "not both"),
        ({"step": -1.0}, "`step`"),
        ({"horizon": 0.0}, "`horizon` must be a positive"),
        ({"samples": 0}, "`samples`"),
        ({"model": "ms1", "width": 3}, "fixes its width"),
        ({"activation": "tahn"}, "Did you mean 'tanh'"),
    ],
)
def test_choices_that_make_no_sense_are_refused(choices, word):
    with pytest.raises(ValueError, match=word):
        untrained(**choices)


def test_a_run_without_layers_is_refused(tmp_path):
    train(Source("double-moons", size=100), {**SMALL, "layers": 0}, tmp_path / "run")
    with pytest.raises(ValueError, match="identity"):
        trained(tmp_path / "run")
    with pytest.raises(ValueError, match="`samples` must be at least 1"):
        trained(tmp_path / "run", samples=0)


def test_states_that_diverge_are_an_error():
    subject = untrained("h1", layers=600, step=1.0, init_std=3.0, activation="identity", samples=2)
    with pytest.raises(FloatingPointError, match=r"after layer \d+ is not finite"):
        _ = subject.states


def test_a_last_layer_beyond_all_measure_is_an_error():
    subject = untrained("h1", layers=2, init_std=1e36, activation="identity", samples=2)
    with pytest.raises(FloatingPointError, match="exceeds 1e\\+70"):
        _ = subject.first
