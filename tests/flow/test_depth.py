"""Flows made from a flow: the same ODE in finer steps, and a part that keeps its time."""

import copy
import itertools
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

import hdnn
from families import INTEGRATORS, Factors, random, tight
from hdnn.flow import Flow

DOUBLE = torch.float64


def sampled(layers: int, *, horizon: float = 1.0) -> hdnn.Flow:
    """A flow whose weights are a smooth function of time, taken at the middle of every layer."""
    flow = hdnn.h2(4, layers, horizon=horizon, dtype=DOUBLE)
    time = (torch.arange(layers, dtype=DOUBLE) + 0.5) / layers
    with torch.no_grad():
        for parameter, phase in ((flow.weight, 0.3), (flow.bias, 1.1)):
            shape = parameter.shape[1:]
            frequency = torch.linspace(0.5, 2.0, shape.numel(), dtype=DOUBLE).reshape(shape)
            parameter.copy_(torch.cos(time.view(-1, *[1] * len(shape)) * frequency * 3 + phase))
    return flow


def test_weights_that_change_linearly_stay_on_their_line() -> None:
    flow = hdnn.h1(4, 6, horizon=3.0, dtype=DOUBLE)
    line = torch.arange(6, dtype=DOUBLE).view(-1, 1, 1) * torch.randn(4, 4, dtype=DOUBLE)
    with torch.no_grad():
        flow.weight.copy_(line)
    fine = flow.refine(4)
    middles = (torch.arange(24, dtype=DOUBLE) + 0.5) / 4 - 0.5
    expected = middles.clamp(0, 5).view(-1, 1, 1) * line[1]
    torch.testing.assert_close(fine.weight.detach(), expected, rtol=1e-12, atol=1e-12)
    assert (fine.layers, fine.horizon) == (24, pytest.approx(3.0))


def test_refining_comes_close_to_the_flow_that_was_fine_from_the_start() -> None:
    y = torch.randn(7, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    gaps = [float((sampled(n).refine(8)(y) - sampled(8 * n)(y)).norm().detach()) for n in (8, 16, 32)]
    # Linear interpolation errs by O(h²); half a layer at each end is constant and adds O(h²) as well.
    for coarse, fine in itertools.pairwise(gaps):
        assert 3.2 < coarse / fine < 4.8


def test_a_refined_flow_is_nearer_to_the_ode_than_the_flow_itself() -> None:
    y = torch.randn(7, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    flow, exact = sampled(16, horizon=2.0), sampled(4096, horizon=2.0)(y)
    assert (flow.refine(4)(y) - exact).norm() < 0.5 * (flow(y) - exact).norm()


@pytest.mark.parametrize("preset", [hdnn.ms1, hdnn.ms2, hdnn.ms3, hdnn.h1, hdnn.h2])
def test_factor_one_is_a_copy(preset) -> None:
    flow = preset(4, 5, step=0.1, dtype=DOUBLE)
    again = flow.refine(1)
    y = torch.randn(3, 4, dtype=DOUBLE)
    assert torch.equal(flow(y), again(y))
    with torch.no_grad():
        again.weight.zero_()
    assert flow.weight.abs().sum() > 0


@pytest.mark.parametrize("name", INTEGRATORS)
@torch.no_grad()
def test_every_integrator_is_refined_by_its_order(name: str) -> None:
    def made(name: str, layers: int) -> Flow:
        return Factors("BlockDiagonal", "canonical", name).flow(4, layers, std=0.6, shared=True, step=None, horizon=0.5)

    y = random(20, 4)
    exact = made("RungeKutta4", 400)(y)
    errors = [(made(name, 6).refine(factor)(y) - exact).norm().log2() for factor in (2, 4)]
    assert abs(errors[0] - errors[1] - INTEGRATORS[name].order) < 0.1


def test_shared_weights_are_refined_in_step_alone() -> None:
    flow = hdnn.h2(4, 5, step=0.2, shared=True, dtype=DOUBLE)
    fine = flow.refine(3)
    assert torch.equal(fine.weight, flow.weight)
    assert (fine.layers, fine.step) == (15, pytest.approx(0.2 / 3))


def test_one_j_per_layer_is_repeated() -> None:
    J = torch.randn(3, 4, 4, dtype=DOUBLE)
    flow = hdnn.h1(4, 3, step=0.1, interconnection=hdnn.Fixed(J - J.mT), dtype=DOUBLE)
    fine = flow.refine()
    assert torch.equal(fine.J, flow.J.repeat_interleave(2, dim=0))


def test_what_is_frozen_stays_frozen_and_training_mode_is_kept() -> None:
    flow = hdnn.h1(4, 3, step=0.1).eval()
    flow.bias.requires_grad_(False)
    fine = copy.deepcopy(flow).refine()
    assert fine.weight.requires_grad
    assert not fine.bias.requires_grad
    assert not fine.training


def test_no_layers_stay_no_layers() -> None:
    assert hdnn.h1(4, 0, step=0.1).refine(5).layers == 0


@pytest.mark.parametrize("factor", [0, -1, 1.5, True])
def test_factors_that_make_no_sense_are_refused(factor) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        hdnn.h1(4, 2, step=0.1).refine(factor)


class Swinging(hdnn.Energy):
    """A spring whose stiffness changes with time."""

    def value(self, y: Tensor, t: float) -> Tensor:
        return (1 + math.sin(t)) * y.square().sum(-1) / 2


def swinging(layers: int) -> hdnn.Flow:
    return hdnn.h1(4, layers, step=0.5, energy=Swinging(), dtype=DOUBLE)


def test_the_state_of_a_part_keeps_its_time(tmp_path: Path) -> None:
    part, y = swinging(8)[4:], random(5, 4)
    save_file(part.state_dict(), tmp_path / "part.safetensors")
    state = load_file(tmp_path / "part.safetensors")
    for fresh in (swinging(4), copy.deepcopy(swinging(4)), pickle.loads(pickle.dumps(swinging(4))), swinging(8)[:4]):
        assert not torch.allclose(fresh(y), part(y))
        assert str(fresh.load_state_dict(state)) == "<All keys matched successfully>"
        tight(fresh(y), part(y))
        tight(fresh[2:](y), part[2:](y))
    network, again = nn.Sequential(part), nn.Sequential(swinging(4))
    set_model_state_dict(again, get_model_state_dict(network))
    tight(again(y), part(y))
    # A state that says nothing of a time, as those of earlier versions, leaves it.
    del state["_extra_state"]
    part.load_state_dict(state)
    tight(part(y), again(y))
    # And one that begins at 0 puts it back.
    whole = swinging(4)
    part.load_state_dict(whole.state_dict())
    tight(part(y), whole(y))
