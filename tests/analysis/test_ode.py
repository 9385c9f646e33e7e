"""The equation behind a flow: which weights hold when, and what is no equation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from families import F64, PRESETS, preset, random, skew
from hdnn.activations import softplus
from hdnn.analysis.ode import HamiltonianODE
from hdnn.interconnections import Fixed, canonical, upper_ones

K, b, J = random(3, 5, 4, seed=1), random(3, 5, seed=2), skew(4, seed=3)


def written_out(K: Tensor, b: Tensor, J: Tensor, y: Tensor) -> Tensor:
    return J @ K.T @ torch.nn.functional.softplus(K @ y + b)


def test_the_field_is_the_equation() -> None:
    y = random(4)
    field = HamiltonianODE.piecewise(K[0], b[0], J, 2.0, softplus).field(1.3)
    torch.testing.assert_close(field(y), written_out(K[0], b[0], J, y))
    torch.testing.assert_close(
        field.jacobian(y), torch.func.jacrev(lambda y: written_out(K[0], b[0], J, y))(y), rtol=1e-12, atol=1e-12
    )


def test_pieces_begin_at_their_jumps() -> None:
    ode, y = HamiltonianODE.piecewise(K, b, J, 0.3, softplus), random(4)
    assert len(ode.jumps) == 2
    times = {0.0: 0, 0.05: 0, ode.jumps[0]: 1, math.nextafter(ode.jumps[0], 0): 0, 0.15: 1, ode.jumps[1]: 2, 0.3: 2}
    for t, piece in times.items():
        torch.testing.assert_close(ode.field(t)(y), written_out(K[piece], b[piece], J, y))


def test_one_interconnection_for_each_piece() -> None:
    Js, y = torch.stack([skew(4, seed=j) for j in range(3)]), random(4)
    ode = HamiltonianODE.piecewise(K, b[0], Js, 0.3, softplus)
    torch.testing.assert_close(ode.field(0.25)(y), written_out(K[2], b[0], Js[2], y))
    assert ode.J is None


def test_any_function_of_time() -> None:
    y = random(4)
    ode = HamiltonianODE.varying(lambda t: (math.cos(t) * K[0], t * b[0]), J, 2.0, softplus, jumps=[1.5, 0.5])
    assert ode.jumps == (0.5, 1.5)
    torch.testing.assert_close(ode.field(1.2)(y), written_out(math.cos(1.2) * K[0], 1.2 * b[0], J, y))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shared", [False, True])
def test_the_field_of_a_flow_is_that_of_its_layer(name: str, shared: bool) -> None:
    flow, y = preset(name, shared=shared), random(7, 4)
    ode = HamiltonianODE.of(flow)
    assert ode.horizon == pytest.approx(0.3)
    for layer, field in enumerate(flow.fields()):
        torch.testing.assert_close(ode.field((layer + 0.5) * flow.step)(y), field(y), rtol=1e-12, atol=1e-12)
    constant = flow.interconnection.constant_over_layers
    assert (ode.J is not None) == constant


def test_float32_flows_become_float64() -> None:
    flow = preset("h1", dtype=torch.float32, interconnection=Fixed(upper_ones(4)))
    assert HamiltonianODE.of(flow).field(0.0)(random(4)).dtype == F64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"J": random(4, 4)}, "J must be skew"),
        ({"J": canonical(6)}, "one 4 x 4 matrix"),
        ({"K": K[:2]}, r"one for each of the pieces; they have \[2, 3, 1\]"),
        ({"b": random(3, 4)}, r"K must be \(m, n\) and b \(m,\)"),
        ({"K": K[0] * math.nan}, "NaN or infinite"),
        ({"J": None}, "needs a square K"),
        ({"horizon": 0.0}, "positive, finite time; got 0.0"),
        ({"horizon": math.inf}, "positive, finite time; got inf"),
    ],
)
def test_what_is_no_equation(arguments: dict[str, object], message: str) -> None:
    given = {"K": K, "b": b, "J": J, "horizon": 1.0, **arguments}
    with pytest.raises(ValueError, match=message):
        HamiltonianODE.piecewise(**given)  # type: ignore[arg-type]


def test_what_a_function_of_time_may_not_give() -> None:
    with pytest.raises(ValueError, match=r"horizon 2; got 2\.5"):
        HamiltonianODE.varying(lambda t: (K[0], b[0]), J, 2.0, jumps=[2.5])
    with pytest.raises(ValueError, match=r"NaN or infinite entries at t = 1\.5"):
        HamiltonianODE.varying(lambda t: (K[0] * (math.nan if t > 1 else 1), b[0]), J, 2.0).field(1.5)


def test_flows_without_an_equation() -> None:
    with pytest.raises(ValueError, match="without layers"):
        HamiltonianODE.of(preset("h2", layers=0))
    with pytest.raises(ValueError, match="kernel_size=3"):
        HamiltonianODE.of(preset("h2", kernel_size=3))
    flow = preset("h2")
    with torch.no_grad():
        flow.weight[1] = math.nan
    with pytest.raises(ValueError, match=r"weight.*from layer 1 on"):
        HamiltonianODE.of(flow)
