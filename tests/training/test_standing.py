"""Whether a network still is what it was, asked before every step."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import hdnn
from hdnn.training.standing import Standing, watched


def replace_weight(network):
    network.flow.weight = nn.Parameter(network.flow.weight.detach().clone())


def replace_head(network):
    network.head = nn.Linear(4, 1)


def add_parameter(network):
    network.flow.extra = nn.Parameter(torch.zeros(1))


def add_module(network):
    network.head.more = nn.Identity()


def remove_bias(network):
    network.head.bias = None


CHANGES = {
    "a hook": lambda network: network.flow.register_forward_hook(lambda *_: None),
    "a hook of the whole": lambda network: network.register_forward_pre_hook(lambda *_: None),
    "a hook on gradients": lambda network: network.head.register_full_backward_hook(lambda *_: None),
    "another weight": replace_weight,
    "another head": replace_head,
    "one parameter more": add_parameter,
    "one module more": add_module,
    "no bias": remove_bias,
    "another forward": lambda network: setattr(network, "forward", lambda x: x),
    "a parametrization": lambda network: parametrizations.weight_norm(network.head),
}


def made():
    return hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=3, step=0.1))


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(change):
    network = made()
    standing = Standing(network)
    assert standing.holds()
    CHANGES[change](network)
    assert not standing.holds()


def test_what_is_watched_says_so_until_it_no_longer_is():
    network = made()
    standing = Standing(network)
    handle = network.flow.register_forward_hook(lambda *_: None)
    assert watched(network.flow)
    assert not watched(network.head)
    handle.remove()
    assert not watched(network.flow)
    assert standing.holds()


def test_training_changes_nothing():
    network = made()
    standing = Standing(network)
    network(torch.randn(3, 2)).sum().backward()
    network.load_state_dict(network.state_dict())
    network.train()
    network.eval()
    network.to(torch.float64)
    assert standing.holds()
