"""Configurations of networks of sequences: what they build, what they keep, and what is not for them."""

import dataclasses

import pytest
import torch

import hdnn
from families import F64, random, tight
from hdnn.data import documents
from hdnn.networks import NetworkConfig, build_network
from hdnn.networks.sequences import marked_sequences
from hdnn.recurrent import MODELS

KNOWN = {"task": "classification", "inputs": (9, 3), "outputs": 3, "model": "h2", "features": 8, "layers": 2}
LENGTHS = torch.tensor([9, 4, 1, 6])


def marked(x, lengths):
    marks = torch.zeros(*x.shape[:2], 1, dtype=x.dtype)
    marks[torch.arange(len(x)), lengths - 1] = 1
    return torch.cat((x, marks), -1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_configuration_builds_the_network_of_its_words(model, task):
    config = NetworkConfig(**{**KNOWN, "model": model, "task": task}, step=0.1)
    again = documents.record(NetworkConfig, dataclasses.asdict(config), "the network")
    assert again == config
    torch.manual_seed(0)
    network = build_network(again).double()
    torch.manual_seed(0)
    rnn = hdnn.HamiltonianRNN(2, 8, 2, True, model=model, step=0.1)
    expected = hdnn.sequence_classifier(rnn, 3) if task == "classification" else hdnn.sequence_regressor(rnn, 3)
    expected = expected.double()
    for head in (network.head, expected.head):
        torch.nn.init.ones_(head.weight)
    x = random(4, 9, 2)
    tight(network(marked(x, LENGTHS)), expected(x, LENGTHS))
    assert network.task == task
    assert config.horizon == pytest.approx(0.9)


def test_lengths_are_read_off_the_marks_and_padding_is_not_read():
    torch.manual_seed(0)
    rnn = hdnn.HamiltonianRNN(2, 8, step=0.3, batch_first=True, dtype=F64)
    network = marked_sequences(rnn, 3, "classification")
    torch.nn.init.normal_(network.head.weight)
    x = random(4, 9, 2)
    alone = [
        network(marked(row[None, :T], LENGTHS[i : i + 1])) for i, (row, T) in enumerate(zip(x, LENGTHS, strict=True))
    ]
    tight(network(marked(x, LENGTHS)), torch.cat(alone))
    assert network.trajectory(marked(x, LENGTHS)).shape == (9, 4, 8)
    assert network.predict(marked(x, LENGTHS)).shape == (4,)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"layers": 0}, "at least one layer"),
        ({"inputs": (9, 1)}, "and a mark"),
        ({"width": 9}, "`width` is for networks of vectors"),
        ({"shared": True}, "`shared` is for networks of vectors"),
        ({"lift": "linear"}, "`lift` is for networks of vectors"),
        ({"integrator": "yoshida4"}, "`integrator` is for"),
        ({"interconnection": "canonical"}, "`interconnection` is for"),
        ({"kernel_size": 3}, "vectors none"),
        ({"model": "h1", "damping": 0.1}, "no `damping`"),
        ({"model": "lstm"}, "no model 'lstm'"),
        ({"inputs": (9,), "model": "cornn"}, "network of sequences"),
    ],
)
def test_what_is_not_for_sequences_is_refused(choices, words):
    with pytest.raises(ValueError, match=words):
        NetworkConfig(**{**KNOWN, **choices}, step=0.1)
