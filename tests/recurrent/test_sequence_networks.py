"""Networks of sequences: the last state or every one, trained by the one trainer."""

import pytest
import torch
from torch import nn

import hdnn
from families import F64, random, tight


def classifier(classes=3, **options):
    torch.manual_seed(0)
    network = hdnn.sequence_classifier(hdnn.HamiltonianRNN(2, 8, step=0.3, dtype=F64), classes, **options)
    nn.init.normal_(network.head.weight)
    return network


@pytest.mark.parametrize("make", [hdnn.HamiltonianRNN, nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("every", [False, True])
def test_shapes(make, batch_first, every):
    x, steps = torch.randn(4, 7, 2), (7,) if every else ()
    rnn = make(2, 8, batch_first=batch_first)
    assert hdnn.sequence_classifier(rnn, 2, every=every)(x).shape == (4, *steps, 1)
    assert hdnn.sequence_classifier(rnn, 5, every=every)(x).shape == (4, *steps, 5)
    network = hdnn.sequence_regressor(rnn, 3, every=every)
    assert network(x).shape == network.predict(x).shape == (4, *steps, 3)
    assert not network(x).any()  # started at zero
    tight(network.trajectory(x)[-1].double(), network.states(x)[:, -1].double())


def test_padding_is_not_read():
    network, x = classifier(), random(4, 7, 2)
    lengths = torch.tensor([7, 3, 1, 5])
    tight(network(x, lengths), torch.cat([network(row[None, :T]) for row, T in zip(x, lengths.tolist(), strict=True)]))
    spoilt = x.clone()
    for row, T in zip(spoilt, lengths.tolist(), strict=True):
        row[T:] = 1e3
    tight(network(spoilt, lengths), network(x, lengths))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_lengths_may_be_any_whole_numbers(dtype):
    """As many sequences as steps, where bytes as indices would be a mask."""
    network, x, lengths = classifier(), random(5, 5, 2), torch.tensor([3, 2, 5, 4, 3])
    assert torch.equal(network(x, lengths.to(dtype)), network(x, lengths))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's own
def test_lengths_compile_as_one_graph():
    network, x, lengths = classifier(), random(4, 5, 2), torch.tensor([1, 2, 5, 3])
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    tight(compiled(x, lengths), network(x, lengths))


def test_probabilities_of_every_step():
    network, x = classifier(every=True), random(4, 7, 2)
    tight(network.probabilities(x).sum(-1), torch.ones(4, 7, dtype=F64))
    assert network.predict(x).shape == (4, 7)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("every", [False, True])
def test_it_learns_classes(classes, every):
    network, x = classifier(classes, every=every), random(60, 6, 2)
    total = x.cumsum(1)[..., 0]
    y = (total > 0).long() + ((total > 1).long() if classes == 3 else 0)
    y = y if every else y[:, -1]
    history = hdnn.fit(network, x, y, hdnn.Recipe(epochs=40, batch_size=20, learning_rate=0.03))
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert (network.predict(x) == y).double().mean() > 0.8


def test_it_learns_numbers_with_lengths():
    torch.manual_seed(0)
    network = hdnn.sequence_regressor(hdnn.HamiltonianRNN(2, 8, step=0.3, dtype=F64))
    x, lengths = random(60, 6, 2), torch.randint(1, 7, (60,), generator=torch.Generator().manual_seed(0))
    y = x.cumsum(1)[torch.arange(60), lengths - 1, :1]
    history = hdnn.fit(network, (x, lengths), y, hdnn.Recipe(epochs=60, batch_size=20, learning_rate=0.03))
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]


def test_what_does_not_fit():
    network, x = classifier(), random(4, 7, 2)
    with pytest.raises(ValueError, match=r"\(B, T, d\)"):
        network(x[0])
    for lengths in (torch.tensor([7, 3, 1]), torch.tensor([7, 3, 0, 1]), torch.tensor([8, 3, 1, 1])):
        with pytest.raises(ValueError, match="one for each sequence"):
            network(x, lengths)
    for lengths, kind in (
        ([7, 3, 1, 1], "list"),
        (torch.ones(4), "torch.float32"),
        (torch.ones(4, dtype=torch.bool), "torch.bool"),
    ):
        with pytest.raises(TypeError, match=f"a tensor of whole numbers, one for .*; got {kind}"):
            network(x, lengths)
    with pytest.raises(ValueError, match="two classes"):
        hdnn.sequence_classifier(hdnn.HamiltonianRNN(2, 8), 1)
    with pytest.raises(TypeError, match="recurrent network"):
        hdnn.sequence_classifier(nn.Linear(2, 8), 3)
    with pytest.raises(ValueError, match="bidirectional"):
        hdnn.sequence_classifier(nn.GRU(2, 8, bidirectional=True), 3)
