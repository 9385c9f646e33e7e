"""Whether colours are told apart by every reader, on the white paper that figures have in light and dark pages."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.legend import Legend

from hdnn import plots
from hdnn.plots.style import COLOURS, MARKERS, colour, gradation, marker

# Machado, Oliveira, Fernandes 2009, severity 1.0: what is seen, in linear RGB.
# https://www.inf.ufrgs.br/~oliveira/pubs_files/CVD_Simulation/CVD_Simulation.html
SEEN = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
CLEAR = 11.0  # CIEDE2000; 2.3 is just noticeable side by side, small dots far apart need several times that


def linear(shade):
    c = np.array(to_rgb(shade))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    t = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    x, y, z = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(first, second):
    """Sharma, Wu, Dalal 2005, https://hajim.rochester.edu/ece/sites/gsharma/ciede2000/."""
    (L1, a1, b1), (L2, a2, b2) = first, second
    C = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    G = 0.5 * (1 - np.sqrt(C**7 / (C**7 + 25.0**7)))
    C1, C2 = np.hypot((1 + G) * a1, b1), np.hypot((1 + G) * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, (1 + G) * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if C1 * C2 else 0.0
    dH = 2 * np.sqrt(C1 * C2) * np.sin(np.radians(turn) / 2)
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = h1 + h2 if not C1 * C2 else (h1 + h2 + (360 if abs(h1 - h2) > 180 else 0)) / 2
    cosines = [np.cos(np.radians(angle)) for angle in (h - 30, 2 * h, 3 * h + 6, 4 * h - 63)]
    T = 1 + np.dot([-0.17, 0.24, 0.32, -0.20], cosines)
    SL = 1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2)
    SC, SH = 1 + 0.045 * C, 1 + 0.015 * C * T
    RT = -2 * np.sqrt(C**7 / (C**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2))))
    light, c, t = (L2 - L1) / SL, (C2 - C1) / SC, dH / SH
    return np.sqrt(light**2 + c**2 + t**2 + RT * c * t)


@pytest.mark.parametrize(
    ("first", "second", "published"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_measure_gives_published_differences(first, second, published):
    np.testing.assert_allclose(ciede2000(first, second), published, atol=1e-4)


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("classes", range(2, 11))
def test_classes_are_told_apart_by_colour_and_by_marker(classes, eyes):
    matrix = np.array(SEEN[eyes])
    for first, second in itertools.combinations(range(classes), 2):
        assert ciede2000(*(lab(matrix @ linear(colour(i))) for i in (first, second))) > CLEAR, (first, second)
        assert marker(first) != marker(second)


@pytest.mark.parametrize("eyes", SEEN)
def test_no_colour_is_lost_on_paper(eyes):
    for shade in COLOURS:
        luminance = XYZ[1] @ np.clip(np.array(SEEN[eyes]) @ linear(shade), 0, 1)
        assert 1.05 / (luminance + 0.05) > 2.8, shade  # WCAG 2.2 asks 3 of graphics, as normal eyes see them
    assert all(1.05 / (XYZ[1] @ linear(shade) + 0.05) > 3 for shade in COLOURS)


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_gradation_goes_from_dark_to_light_in_steps_that_are_seen_and_is_not_lost_on_paper(count, eyes):
    seen = [np.array(SEEN[eyes]) @ linear(shade) for shade in gradation(count)]
    for first, second in itertools.pairwise(map(lab, seen)):
        assert first[0] < second[0]
        assert ciede2000(first, second) > 4.5
    assert 1.05 / (XYZ[1] @ linear(gradation(count)[-1]) + 0.05) > 2.3


def test_a_hundred_classes_look_different():
    assert len({(colour(i), marker(i)) for i in range(100)}) == len(COLOURS) * len(MARKERS) == 100


def test_points_have_the_look_that_the_legend_gives_their_class(tmp_path):
    labels = np.arange(20) % 10
    points = np.random.default_rng(0).normal(size=(2, 20, 2))
    figure = plots.features_by_layer(points, labels, [str(i) for i in range(10)])
    (box,) = figure.findobj(Legend)
    for ax in figure.axes:
        (dots,) = [artist for artist in ax.collections if artist.get_gid() == "samples"]
        np.testing.assert_array_equal(dots.get_offsets(), points[figure.axes.index(ax)])
        for i, label in enumerate(labels):
            line = box.get_lines()[label]
            assert tuple(dots.get_facecolor()[i][:3]) == to_rgb(line.get_markerfacecolor())
        outlines = {label: dots.get_paths()[label].vertices.tobytes() for label in range(10)}
        assert len(set(outlines.values())) == 10
        assert all(dots.get_paths()[i].vertices.tobytes() == outlines[label] for i, label in enumerate(labels))
