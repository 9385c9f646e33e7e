"""Stages undo their layers to the bit in float32, at any depth, and under autocast."""

import copy

import pytest
import torch

import hdnn


def deep(kind, *, layers=120, step=1.0, seed=0):
    torch.manual_seed(seed)
    std = 0.3 if kind in ("units", "batch") else 0.03
    flow = hdnn.h2(4, layers, step=step, kernel_size=3, activation="tanh", init_std=std, memory="reverse")
    return hdnn.Stage(flow, kind)


def variants(stage):
    """The same stage in float64 with everything kept, and in float32 with everything kept."""
    truth, kept = copy.deepcopy(stage).double(), copy.deepcopy(stage)
    truth.flow.memory = kept.flow.memory = "store"
    return truth, kept


def gradients(stage, y, *, half=False):
    y = y.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out = stage(y)
    found = torch.autograd.grad(out.square().mean(), [y, *stage.parameters()])
    return torch.cat([g.flatten().double() for g in found]), out.detach().double()


def error(found, truth):
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize("kind", ["units", "batch", "bias", None])
@pytest.mark.parametrize("half", [False, True])
def test_it_is_as_right_as_keeping_everything(kind, half):
    stage = deep(kind)
    truth, kept = variants(stage)
    y = torch.randn(3, 4, 6, 6)
    g, out = gradients(truth, y.double())
    ours, theirs = gradients(stage, y, half=half), gradients(kept, y, half=half)
    for mine, other, true in zip(ours, theirs, (g, out), strict=True):
        assert error(mine, true) <= 3 * error(other, true) + 1e-6


def test_the_way_back_meets_every_state_to_the_bit():
    stage = deep("batch").eval()
    fields, integrator = stage.fields(), stage.flow.integrator
    y = first = (torch.randn(3, 4, 6, 6, dtype=torch.float64) * 2**34).round() / 2**34
    with torch.no_grad():
        for field in fields:
            y = integrator.exact_step(field, y, 1.0, torch.float32)
        for field in reversed(fields):
            y = integrator.exact_step(field, y, 1.0, torch.float32, back=True)
    assert torch.equal(y, first)


@pytest.mark.parametrize("integrator", ["stormer_verlet", "yoshida4"])
def test_other_splittings_are_undone_too(integrator):
    torch.manual_seed(0)
    flow = hdnn.h2(4, 20, step=0.5, kernel_size=3, memory="reverse", integrator=integrator)
    stage = hdnn.Stage(flow, "units")
    truth, kept = variants(stage)
    y = torch.randn(3, 4, 6, 6)
    g, _ = gradients(truth, y.double())
    assert error(gradients(stage, y)[0], g) <= 3 * error(gradients(kept, y)[0], g) + 1e-6


def test_second_derivatives_find_their_way():
    stage = deep("units", layers=5)
    _, kept = variants(stage)

    def penalty(stage):
        y = torch.ones(2, 4, 4, 4).cumsum(1).sin().cumsum(2).requires_grad_()
        (g,) = torch.autograd.grad(stage(y).square().mean(), y, create_graph=True)
        return torch.autograd.grad(g.square().sum(), stage.flow.weight)[0]

    torch.testing.assert_close(penalty(stage), penalty(kept), rtol=1e-3, atol=1e-5)


def test_what_grows_beyond_the_grid_is_refused():
    stage = deep(None, layers=3)
    y = torch.full((1, 4, 4, 4), 3e9).normal_(std=3e9).requires_grad_()
    with torch.no_grad():
        stage.flow.weight.mul_(100)
    with pytest.raises(RuntimeError, match="500,000"):
        stage(y).sum().backward()


@pytest.mark.parametrize("kind", ["units", "batch"])
def test_a_stem_in_16_bits_is_no_hindrance(kind):
    torch.manual_seed(0)
    made = [hdnn.image_network((9, 9), (4, 8), step=0.1, normalization=kind, memory=m) for m in ("store", "reverse")]
    torch.nn.init.normal_(made[0].head.weight)
    made[1].load_state_dict(made[0].state_dict())
    truth = copy.deepcopy(made[0]).double()
    x, found = torch.randn(6, 3, 12, 12), []
    for network in (truth, *made):
        with torch.autocast("cpu", torch.bfloat16, enabled=network is not truth):
            loss = network(x.to(network.head.weight.dtype)).double().square().mean()
        g = torch.autograd.grad(loss, list(network.parameters()))
        found.append(torch.cat([each.flatten().double() for each in g]))
    assert error(found[2], found[0]) <= 1.5 * error(found[1], found[0])


@pytest.mark.parametrize("features", [4, 6])
def test_as_many_layers_as_features_are_no_stack_of_interconnections(features):
    torch.manual_seed(0)
    flow = hdnn.h2(features, layers=features, step=0.1, kernel_size=3, memory="reverse")
    stage = hdnn.Stage(flow)
    truth, kept = variants(stage)
    y = torch.randn(3, features, 6, 6)
    g, _ = gradients(truth, y.double())
    assert error(gradients(stage, y)[0], g) <= 3 * error(gradients(kept, y)[0], g) + 1e-6
