import numpy as np
import pytest

from drawings import legend, overhang
from hdnn import plots

PLACES = np.array([1.0, 2.0, 4.0, 8.0])
SEEDS = np.array([[1.0, 2.0, 3.0, 4.0], [3.0, 2.0, 5.0, 0.0], [2.0, 2.0, 1.0, 2.0]])


def bands(ax):
    return [area for area in ax.collections if area.get_gid() == "band"]


def solid(ax):
    return [line for line in ax.lines if line.get_gid() != "sunk"]


def test_a_line_for_the_mean_and_a_band_from_the_smallest_to_the_largest_seed():
    figure = plots.curves({"H2": (PLACES, SEEDS), "one seed": (PLACES, SEEDS[0])}, x="layers", y="accuracy")
    (ax,) = figure.axes
    np.testing.assert_allclose(solid(ax)[0].get_ydata(), SEEDS.mean(0))
    (band,) = bands(ax)
    corners = {(x, y) for x, y in band.get_paths()[0].vertices}
    for x, low, high in zip(PLACES, SEEDS.min(0), SEEDS.max(0), strict=True):
        assert {(x, low), (x, high)} <= corners
    assert legend(figure) == ["H2", "one seed", "band: least to most of 3 seeds"]
    assert overhang(figure) < 0


def test_the_number_of_seeds_may_differ():
    figure = plots.curves({"a": (PLACES, SEEDS), "b": (PLACES, SEEDS[:2])}, x="x", y="y")
    assert legend(figure)[-1].endswith("of 2 to 3 seeds")


def test_what_cannot_be_told_from_nothing_is_a_broken_line():
    deep = np.array([0.0, -20.0, -300.0, -300.0])
    figure = plots.curves({"perceptron": (PLACES, deep)}, x="layer", y="exponent", floor=-300)
    (ax,) = figure.axes
    np.testing.assert_array_equal(solid(ax)[0].get_ydata(), [0, -20, np.nan, np.nan])
    (sunk,) = [line for line in ax.lines if line.get_gid() == "sunk"]
    np.testing.assert_array_equal(sunk.get_ydata(), [np.nan, -20, -300, -300])
    assert sunk.is_dashed()
    assert legend(figure)[-1] == "broken: a seed is at −300 or below"
    unbroken = plots.curves({"h2": (PLACES, deep / 1000)}, x="layer", y="exponent", floor=-300)
    assert legend(unbroken) == ["h2"]


def test_one_seed_at_the_floor_breaks_the_mean():
    figure = plots.curves({"a": (PLACES, [[0, 0, 0, 0], [0, 0, -300, 0]])}, x="x", y="y", floor=-300)
    assert np.isnan(solid(figure.axes[0])[0].get_ydata()).tolist() == [False, False, True, False]


def test_a_seed_without_a_value_is_left_out():
    values = [[1, np.nan, 3, np.nan], [3, 2, np.inf, np.nan]]
    figure = plots.curves({"a": (PLACES, values)}, x="x", y="y", enlarge=True)
    np.testing.assert_array_equal(solid(figure.axes[0])[0].get_ydata(), [2, 2, 3, np.nan])
    assert overhang(figure) < 0


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_flat_curve_gets_a_panel_with_its_own_scale(scale):
    series = {"h2": (PLACES, [1.0, 1.1, 1.2, 1.3]), "perceptron": (PLACES, [1.0, 1e-5, 1e-30, 1e-60])}
    if scale == "linear":
        series["perceptron"] = (PLACES, [0, -50, -200, -300])
    figure = plots.curves(series, x="layer", y="gradient", scales=("linear", scale), enlarge=True)
    whole, part = figure.axes
    assert len(solid(whole)) == 2
    assert len(solid(part)) == 1
    assert solid(part)[0].get_color() == solid(whole)[0].get_color()
    assert part.get_ylim()[1] < 1.5
    assert part.get_ylim()[0] > 0.5
    assert len(plots.curves(series, x="x", y="y", scales=("linear", scale)).axes) == 1
    assert len(plots.curves({"h2": series["h2"]}, x="x", y="y", enlarge=True).axes) == 1
    assert overhang(figure) < 0


def test_many_places_are_marked_now_and_then():
    x = np.arange(65.0)
    figure = plots.curves({f"network {i}": (x, i + x) for i in range(10)}, x="layer", y="y")
    for line in figure.axes[0].lines:
        start, stride = line.get_markevery()
        assert 5 <= len(x[start::stride]) <= 10
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 10


@pytest.mark.parametrize("values", [[1, 2], [[1, 2]], np.zeros((2, 3, 4)), np.zeros((0, 4))])
def test_what_does_not_fit_is_named(values):
    with pytest.raises(ValueError, match="of S seeds, for 'h2'"):
        plots.curves({"h2": (PLACES, values)}, x="x", y="y")


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="at least"):
        plots.curves({}, x="x", y="y")


def test_decades_are_plain_numbers_and_no_mathematics_is_set():
    history = [{"epoch": i, "loss": 10.0**-i, "learning_rate": 10.0**-i} for i in range(4)]
    figure = plots.training_curves(history)
    figure.canvas.draw()
    for ax in figure.axes:
        shown = [label.get_text() for label in ax.get_yticklabels()]
        assert {"1", "0.1", "0.01", "0.001"} <= set(shown)
        assert not any("$" in text for text in shown)
