"""Eigenvalues stand where they are, on axes of one scale, beside the boundary of stability."""

import numpy as np
import pytest
from matplotlib.patches import Circle

from drawings import legend, overhang
from hdnn import plots

IMAGINARY = np.array([[2j, -2j], [0.5j, -0.5j]])


def drawn(figure):
    (ax,) = figure.axes
    groups = [dots.get_offsets() for dots in ax.collections if dots.get_gid() == "eigenvalues"]
    return [np.asarray(points[:, 0] + 1j * points[:, 1]) for points in groups]


def test_points_groups_and_the_axis():
    figure = plots.eigenvalues({"layer 0": IMAGINARY, "layer 9": IMAGINARY / 2})
    first, second = drawn(figure)
    np.testing.assert_array_equal(first, IMAGINARY.ravel())
    np.testing.assert_array_equal(second, IMAGINARY.ravel() / 2)
    (ax,) = figure.axes
    assert set(ax.lines[0].get_xdata()) == {0}
    assert legend(figure) == ["layer 0", "layer 9", "imaginary axis"]
    assert overhang(figure) < 0


def test_rounding_is_not_magnified_to_a_spectrum():
    (ax,) = plots.eigenvalues({"A": IMAGINARY + 1e-15}).axes
    left, right = ax.get_xlim()
    assert right - left > 1
    assert ax.get_aspect() == 1


@pytest.mark.parametrize("values", [[1 + 0.05j, 1 - 0.05j], [3 + 0j, 0.2], [-1.0, 1.0], [1.0]])
def test_the_window_holds_the_values_and_the_circle(values):
    figure = plots.eigenvalues({"L": values}, boundary="unit circle")
    (ax,) = figure.axes
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    values = np.asarray(values, complex)
    assert left < min(values.real.min(), 1)
    assert right > max(values.real.max(), 1)
    assert low <= values.imag.min()
    assert high >= values.imag.max()
    (circle,) = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert (circle.center, circle.radius) == ((0, 0), 1)
    assert "unit circle" in legend(figure)
    assert overhang(figure) < 0


def test_zeros_alone_are_drawn():
    assert overhang(plots.eigenvalues({"A": np.zeros(4)})) < 0


def test_errors_teach():
    with pytest.raises(ValueError, match="got 0, 0 not finite"):
        plots.eigenvalues({})
    with pytest.raises(ValueError, match="got 2, 1 not finite"):
        plots.eigenvalues({"A": [1j, np.nan]})
    with pytest.raises(ValueError, match="unit circle"):
        plots.eigenvalues({"A": [1j]}, boundary="circle")
