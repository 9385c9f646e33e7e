"""The benchmark of steps on images: what stands beside is the same network."""

import pytest
import torch
from torch import nn

import hdnn
import image_speed


@pytest.mark.long
@pytest.mark.parametrize("half", [False, True])
def test_all_ways_are_timed_on_the_same_network(half, monkeypatch):
    monkeypatch.setitem(image_speed.SIZES, "small", ((1, 2, 1), (4, 8, 12)))
    chosen = image_speed.parsed(["--turns", "1", "--batch", "8", "--eager"])
    found = image_speed.measured("small", half, chosen)
    assert set(found["ways"]) == {"hdnn", "by hand", "ResNet-20", "ResNet-32"}
    assert all(value > 0 for row in found["ways"].values() for value in row.values())


def test_by_hand_is_the_network_to_rounding_and_another_sign_is_not():
    torch.manual_seed(0)
    source = hdnn.image_network((1, 2, 1), (4, 8, 12), normalization="batch").double()
    nn.init.normal_(source.head.weight)
    x = torch.randn(8, 3, 12, 12).double()
    own, hand = source(x), image_speed.ByHand(source).double()
    torch.testing.assert_close(hand(x), own, rtol=1e-10, atol=1e-10)
    hand.steps[0] *= -1
    assert (hand(x) - own).abs().max() > 1e-3
