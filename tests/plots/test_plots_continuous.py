"""A trajectory beside the entries of its sensitivity."""

import numpy as np
import pytest

from drawings import legend, overhang
from hdnn import plots


def spiral(features=2, times=50):
    t = np.linspace(0, 10, times)
    states = np.stack([np.cos(t + i) for i in range(features)], axis=1)
    matrices = t[:, None, None] * np.arange(1, features**2 + 1).reshape(features, features)
    return t, states, matrices


def test_the_plane_and_the_four_entries():
    t, states, matrices = spiral()
    figure = plots.sensitivity_entries(t, states, matrices)
    left, right = figure.axes
    np.testing.assert_array_equal(np.transpose(left.lines[0].get_data()), states)
    (start,) = [line for line in left.lines if line.get_gid() == "start"]
    np.testing.assert_array_equal(np.concatenate(start.get_data()), states[0])
    for line, (i, k) in zip(right.lines, np.ndindex(2, 2), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), matrices[:, i, k])
    assert legend(figure) == ["t = 0", *[f"∂y{i} / ∂y{k}" for i in "₁₂" for k in "₁₂"]]
    assert overhang(figure) < 0


@pytest.mark.parametrize("features", [1, 3])
def test_other_states_are_drawn_against_time(features):
    t, states, matrices = spiral(features)
    figure = plots.sensitivity_entries(t, states, matrices)
    np.testing.assert_array_equal(figure.axes[0].lines[features - 1].get_data(), (t, states[:, features - 1]))
    assert len(legend(figure)) == features + features**2
    assert overhang(figure) < 0


def test_errors_teach():
    t, states, matrices = spiral()
    with pytest.raises(ValueError, match="Of a batch pass one"):
        plots.sensitivity_entries(t, states[:, None], matrices[:, None])
    with pytest.raises(ValueError, match="At most 3 features"):
        plots.sensitivity_entries(*spiral(4))
