"""Figures along depth show the numbers they were given, at the right depths."""

import numpy as np
import pytest
import torch

from drawings import legend, overhang, words
from hdnn import plots
from hdnn.analysis import statistics


def bands(depths=65, samples=20, rate=0.02, seed=0):
    """Norms that grow with the distance from the output, where they are 1."""
    generator = torch.Generator().manual_seed(seed)
    rates = rate * (1 + torch.rand(samples, generator=generator, dtype=torch.float64))
    return statistics(torch.exp(rates * torch.arange(depths - 1, -1, -1, dtype=torch.float64)[:, None]))


def band_of(ax, index=0):
    """The corners of a band, as {depth: (low, high)}."""
    (path,) = [area for area in ax.collections if area.get_gid() == "band"][index].get_paths()
    found: dict[float, list[float]] = {}
    for x, y in path.vertices:
        found.setdefault(float(x), []).append(float(y))
    return {x: (min(ys), max(ys)) for x, ys in found.items()}


class TestNormsByDepth:
    def test_line_and_band_are_mean_and_range(self):
        given = bands()
        figure = plots.norms_by_depth({"h2": given})
        (ax,) = figure.axes
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(65))
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), given.mean)
        corners = band_of(ax)
        for j in (0, 31, 64):
            assert corners[j] == (float(given.minimum[j]), float(given.maximum[j]))
        assert ax.get_yscale() == "log"
        assert legend(figure) == ["h2", "lower bound 1"]
        assert overhang(figure) < 0

    def test_the_bound_is_where_it_says_and_can_be_left_out(self):
        given = {"mlp": bands(rate=-0.5)}
        line = plots.norms_by_depth(given).axes[0].lines[-1]
        assert set(line.get_ydata()) == {1.0}
        assert legend(plots.norms_by_depth(given, lower=None)) == ["mlp"]

    def test_networks_of_different_depth_meet_at_the_output(self):
        figure = plots.norms_by_depth({"h1": bands(65), "mlp": bands(33, rate=-0.7)})
        (ax,) = figure.axes
        assert [(line.get_xdata()[0], line.get_xdata()[-1]) for line in ax.lines[:2]] == [(-64, 0), (-32, 0)]
        left, right = ax.get_xlim()
        assert left < -64 < 0 < right
        assert "$j - N$, the output at 0" in words(figure)

    def test_some_depths_only(self):
        figure = plots.norms_by_depth({"h2": bands(5)}, depths=[0, 16, 32, 48, 64])
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [0, 16, 32, 48, 64])

    @pytest.mark.parametrize("largest", [50.0, 1e40, np.inf])
    def test_an_upper_bound_far_away_does_not_flatten_the_norms(self, largest):
        given = bands()
        figure = plots.norms_by_depth({"h2": given}, upper={"h2": np.geomspace(1, min(largest, 1e300), 65)[::-1]})
        low, high = figure.axes[0].get_ylim()
        assert low < 1
        assert float(given.maximum[0]) < high < 2e3 * float(given.maximum[0])
        assert "upper bound" in legend(figure)
        assert overhang(figure) < 0

    def test_an_infinite_bound_is_drawn_as_far_as_it_goes(self):
        upper = np.concatenate([np.full(30, np.inf), np.geomspace(9, 1, 35)])
        assert overhang(plots.norms_by_depth({"h2": bands()}, upper={"h2": upper})) < 0

    def test_errors_teach(self):
        with pytest.raises(ValueError, match="one network at least"):
            plots.norms_by_depth({})
        with pytest.raises(ValueError, match="names 3 depths; the statistics have"):
            plots.norms_by_depth({"h2": bands(5)}, depths=[0, 1, 2])
        with pytest.raises(ValueError, match=r"'h2' must have one entry a depth"):
            plots.norms_by_depth({"h2": statistics(torch.ones(3, 2), levels=[]).quantiles})


class TestSingularValues:
    @pytest.mark.parametrize(("count", "drawn"), [(1, [1]), (4, [1, 2, 3, 4]), (32, [1, 5, 10, 14, 19, 23, 28, 32])])
    def test_at_most_eight_are_drawn_and_named(self, count, drawn):
        values = [bands(rate=0.03 - 0.06 * i / count) for i in range(count)]
        figure = plots.singular_values_by_depth(values)
        subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
        assert legend(figure) == [f"s{i}".translate(subscripts) for i in drawn]
        for line, i in zip(figure.axes[0].lines, drawn, strict=False):
            np.testing.assert_array_equal(line.get_ydata(), values[i - 1].mean)
        assert overhang(figure) < 0

    def test_none_is_refused(self):
        with pytest.raises(ValueError, match="nothing to draw"):
            plots.singular_values_by_depth([])


def test_energy_is_linear_and_marks_zero():
    drift = statistics(torch.linspace(0, 1, 101)[:, None] * torch.tensor([-1.0, 0.5, 2.0]))
    figure = plots.energy_by_depth({"h1": drift, "h2": drift})
    (ax,) = figure.axes
    assert ax.get_yscale() == "linear"
    assert band_of(ax)[100.0] == (-1.0, 2.0)
    assert set(ax.lines[-1].get_ydata()) == {0.0}
    assert legend(figure) == ["h1", "h2"]
    assert overhang(figure) < 0


class TestGradients:
    def test_states_and_parameters(self):
        weight = np.geomspace(1, 1e-3, 64)
        figure = plots.gradients_by_depth(bands(), {"weight": weight, "bias": [0.5]})
        left, right = figure.axes
        np.testing.assert_array_equal(right.lines[0].get_ydata(), weight)
        np.testing.assert_array_equal(right.lines[0].get_xdata(), np.arange(64))
        assert left.get_xlim() == right.get_xlim()
        assert legend(figure) == ["weight", "bias (shared)"]
        assert overhang(figure) < 0

    def test_a_norm_for_every_layer(self):
        with pytest.raises(ValueError, match=r"'weight' for each of the 64 layers; got \(63,\)"):
            plots.gradients_by_depth(bands(), {"weight": np.ones(63)})


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_that_vanish_or_never_change_are_drawn(value):
    figure = plots.gradients_by_depth(statistics(torch.full((5, 3), value)), {"weight": [value] * 4})
    assert overhang(figure) < 0


def test_zeros_leave_a_gap_and_say_so():
    norms = np.array([1e-3, 0.0, 1e-2, 1.0])
    band = statistics(torch.ones(5, 3, dtype=torch.float64))
    figure = plots.gradients_by_depth(band, {"weight": norms})
    left, right = ([text.get_text() for text in ax.texts] for ax in figure.axes)
    assert left == []
    assert right == ["where a line is broken, it is 0"]
    assert overhang(figure) < 0
