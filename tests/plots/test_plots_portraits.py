"""Levels, field and trajectories of a phase portrait stand where the numbers say."""

import numpy as np
import pytest
import torch

import hdnn
from drawings import legend, overhang, words
from hdnn import plots

X, Y = np.linspace(-2, 2, 41), np.linspace(-1, 1, 21)
P, Q = np.meshgrid(X, Y)
ENERGY, VELOCITY = (P**2 + Q**2) / 2, np.stack((Q, -P))


def test_levels_trajectories_and_words():
    angle = np.linspace(0, 3, 16)
    states = np.stack((np.sin(angle), np.cos(angle)), -1)
    figure = plots.phase_portrait(
        X, Y, ENERGY, VELOCITY, trajectories=states[:, None] * [[[0.4], [0.8]]], names=("p₁", "q₃"), note="a plane"
    )
    (ax,) = figure.axes
    lines = [line for line in ax.lines if line.get_gid() == "trajectory"]
    np.testing.assert_allclose(lines[1].get_xydata(), 0.8 * states)
    assert len([line for line in ax.lines if line.get_gid() == "start"]) == 2
    levels = next(drawn for drawn in ax.collections if drawn.get_gid() == "levels")
    for height, path in zip(levels.levels, levels.get_paths(), strict=True):
        radii = np.hypot(*path.vertices.T)
        assert not radii.size or np.allclose(radii, np.sqrt(2 * height), atol=0.02)
    assert legend(figure) == ["field", "levels of H", "layers", "input"]
    assert {"p₁", "q₃", "a plane"} <= set(words(figure))
    assert overhang(figure) < 0


def test_a_field_at_rest_and_a_level_energy_are_drawn():
    assert overhang(plots.phase_portrait(X, Y, 0 * ENERGY, 0 * VELOCITY)) < 0


def test_one_trajectory():
    (ax,) = plots.phase_portrait(X, Y, ENERGY, VELOCITY, trajectories=[[0, 1], [1, 0]]).axes
    assert len([line for line in ax.lines if line.get_gid() == "trajectory"]) == 1


def test_errors_teach():
    with pytest.raises(ValueError, match="makes them"):
        plots.phase_portrait(X, Y, ENERGY.T, VELOCITY)
    with pytest.raises(ValueError, match="smaller window"):
        plots.phase_portrait(X, Y, ENERGY + np.inf, VELOCITY)
    with pytest.raises(ValueError, match="Pick two coordinates"):
        plots.phase_portrait(X, Y, ENERGY, VELOCITY, trajectories=np.zeros((3, 2, 4)))


def test_tensors_that_ask_for_a_gradient_are_drawn():
    flow = hdnn.h2(2, layers=8, step=0.1)
    found = hdnn.analysis.phase_portrait(flow, ((-2, 2), (-2, 2)), points=9)
    states = flow.trajectory(torch.randn(3, 2))
    assert states.requires_grad
    hdnn.plots.phase_portrait(found.x, found.y, found.energy, found.velocity, trajectories=states)
