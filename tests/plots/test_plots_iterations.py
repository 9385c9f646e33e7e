"""Figures over iterations draw every recorded layer."""

from types import SimpleNamespace

import numpy as np
import pytest

from drawings import legend, overhang, words
from hdnn import plots


def recorded(layers=(1, 11, 21, 31, 41, 51, 61), records=97, scale=1.0):
    """As a recorder keeps it."""
    iterations = 10 * np.arange(records)
    mean = scale * np.exp(np.outer(np.linspace(0, 1, records), np.linspace(2, 0.1, len(layers))))
    return SimpleNamespace(
        layers=tuple(layers), iterations=iterations, minimum=mean / 1.1, mean=mean, maximum=mean * 1.5, norms=mean
    )


def span(ax):
    (area,) = [area for area in ax.collections if area.get_gid() == "range"]
    heights = area.get_paths()[0].vertices[:, 1]
    return heights.min(), heights.max()


def test_a_line_for_every_layer_and_the_range_of_all_samples():
    given = recorded()
    figure = plots.sensitivities_by_iteration({"h1": given})
    (ax,) = figure.axes
    for line, column in zip(ax.lines, given.mean.T, strict=False):
        np.testing.assert_array_equal(line.get_xdata(), given.iterations)
        np.testing.assert_array_equal(line.get_ydata(), column)
    assert span(ax) == (given.minimum.min(), given.maximum.max())
    assert legend(figure) == [*[f"j = {j}" for j in given.layers], "lower bound 1"]
    assert overhang(figure) < 0


def test_without_a_bound_none_is_drawn():
    figure = plots.sensitivities_by_iteration({"mlp": recorded()}, lower=None)
    assert len(figure.axes[0].lines) == 7
    assert not any("bound" in text for text in legend(figure))


@pytest.mark.parametrize("panels", [1, 2, 3, 5])
def test_a_panel_for_every_network_with_its_own_scale(panels):
    given = {f"network {i}": recorded(scale=10.0**-i) for i in range(panels)}
    figure = plots.sensitivities_by_iteration(given)
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(given)
    assert len({ax.get_ylim() for ax in figure.axes}) == panels
    assert len(legend(figure)) == 8  # once for all
    assert overhang(figure) < 0


def test_networks_with_other_layers_name_their_own():
    figure = plots.sensitivities_by_iteration({"h1": recorded(), "mlp": recorded(layers=(1, 11, 21, 31))})
    assert legend(figure).count("j = 31") == 2
    assert legend(figure).count("j = 61") == 1
    assert overhang(figure) < 0


def test_one_record_is_seen():
    figure = plots.sensitivities_by_iteration({"h1": recorded(records=1)})
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines[:7])
    assert overhang(figure) < 0


def test_gradients_of_many_layers_are_thinned_out():
    given = recorded(layers=range(64))
    figure = plots.gradients_by_iteration({"h1": given})
    assert legend(figure) == [f"j = {j}" for j in (0, 8, 16, 24, 32, 39, 47, 55, 63)]
    np.testing.assert_array_equal(figure.axes[0].lines[3].get_ydata(), given.norms[:, 24])
    assert r"$\|dL/d\theta_j\|_2$" in words(figure)
    assert overhang(figure) < 0


def test_errors_teach():
    for draw in (plots.sensitivities_by_iteration, plots.gradients_by_iteration):
        with pytest.raises(ValueError, match="one network at least"):
            draw({})
        with pytest.raises(ValueError, match=r"of 'h1'.*as a callback first"):
            draw({"h1": recorded(records=0)})
