"""Phase portraits show the energy and the field of one layer, over a plane that is named."""

from __future__ import annotations

import pytest
import torch

from families import preset, random
from hdnn.analysis import phase_portrait, sensitivities

WINDOW = ((-2.0, 1.0), (-1.0, 3.0))


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_energy_and_velocity_are_those_of_the_layer(layer: int) -> None:
    flow, through = preset("h2", features=6), random(6)
    found = phase_portrait(flow, WINDOW, layer=layer, coordinates=(4, 1), through=through, points=5)
    assert found.names == ("q₂", "p₂")
    assert "4 other coordinates held still" in found.note
    for k, i in ((0, 0), (3, 1), (4, 4)):
        y = through.clone()
        y[4], y[1] = found.x[k], found.y[i]
        torch.testing.assert_close(found.energy[i, k], flow.energy(y, layer))
        torch.testing.assert_close(found.velocity[:, i, k], flow.fields()[layer](y)[[4, 1]])


def test_the_field_of_two_features_follows_the_levels() -> None:
    found = phase_portrait(preset("h1", features=2, std=1.0), WINDOW, points=201)
    assert (found.names, found.note) == (("p", "q"), "")
    by_q, by_p = torch.gradient(found.energy, spacing=(found.y, found.x))
    across = by_p * found.velocity[0] + by_q * found.velocity[1]
    size = torch.hypot(by_p, by_q) * torch.hypot(*found.velocity)
    assert (across.abs() <= 1e-3 * size.max())[1:-1, 1:-1].all()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 4. Name two"):
        phase_portrait(preset("h2"), WINDOW)
    for wrong in ((0, 0), (0, 4), (1,)):
        with pytest.raises(ValueError, match="two different ones of 0 to 3"):
            phase_portrait(preset("h2"), WINDOW, coordinates=wrong)
    with pytest.raises(ValueError, match="`window` must be"):
        phase_portrait(preset("h2", features=2), ((1.0, 1.0), (0.0, 1.0)))
    with pytest.raises(ValueError, match=r"one state \(4,\)"):
        phase_portrait(preset("h2"), WINDOW, coordinates=(0, 2), through=random(3))
    with pytest.raises(ValueError, match="acts on"):
        phase_portrait(preset("h2", kernel_size=3), WINDOW)
    with pytest.raises(ValueError, match="shifts with the inputs"):
        phase_portrait(preset("h2", features=2, inputs=1), WINDOW)
    both = preset("h2", features=2, inputs=1, ports=1)
    with pytest.raises(
        ValueError, match=r"the inputs and ports of a call.*`sensitivities\(flow, y0, inputs=u, ports=v\)`"
    ):
        phase_portrait(both, WINDOW)
    sensitivities(both, random(2), inputs=random(3, 1), ports=random(3, 1))
    with pytest.raises(IndexError):
        phase_portrait(preset("h2", features=2), WINDOW, layer=3)
