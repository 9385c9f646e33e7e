"""Words in figures that fonts or space do not allow."""

import itertools
from types import SimpleNamespace

import numpy as np

from drawings import legend, overhang, words
from hdnn import plots

STRANGE = ["猫", "bell\x07", "\u202egnirts", "größe ψ", "😀", "\U0001f9ec", "عربى", "a\tb", "$x$"]


def test_signs_that_no_font_has_are_spelt_out_without_a_warning(tmp_path, recwarn):
    coordinates, labels = np.random.default_rng(0).normal(size=(5, 90, 2)), np.arange(90) % len(STRANGE)
    bands = {name: SimpleNamespace(minimum=[1, 2], mean=[2, 3], maximum=[3, 4]) for name in STRANGE}
    x = np.linspace(0, 1, 5)
    figures = [
        plots.features_by_layer(coordinates, labels, STRANGE),
        plots.confusion_matrix(np.eye(len(STRANGE), dtype=int), STRANGE),
        plots.decision_regions(x, x, np.eye(5), [[0, 0]], [1], STRANGE[:2], names=(STRANGE[0], STRANGE[1])),
        plots.predicted_against_true([1, 2], [1, 2], STRANGE[0] + STRANGE[1]),
        plots.energy_by_depth(bands),
        plots.norms_by_depth(bands),
        plots.eigenvalues({name: [1j] for name in STRANGE}),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "a.png")
        assert overhang(figure) < 0
    plots.animate_features(coordinates, labels, STRANGE, tmp_path / "a.gif", frames=2)
    assert not [each.message for each in recwarn if "glyph" in str(each.message).lower()]
    drawn = words(figures[1])
    assert {r"bell\x07", r"\u202egnirts", "größe ψ", "a b", "$x$"} <= set(drawn)
    assert not any(set("\x07\u202e") & set(word) for word in drawn)


def test_of_many_classes_some_are_named_and_the_others_counted():
    names = [f"class {i}" for i in range(100)]
    points = np.random.default_rng(0).normal(size=(2, 100, 2))
    figure = plots.features_by_layer(points, range(100), names)
    assert legend(figure) == [*names[:40], "… and 60 more"]
    figure = plots.confusion_matrix(np.eye(100, dtype=int), names)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert 20 <= len(boxes) <= 40
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
