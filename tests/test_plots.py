import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from PIL import Image

from drawings import legend, overhang, words
from hdnn import plots


def samples(axes):
    return np.concatenate([dots.get_offsets() for dots in axes.collections if dots.get_gid() == "samples"])


def epochs(count, **series):
    return [{"epoch": i + 1, **{key: values[i] for key, values in series.items()}} for i in range(count)]


def cloud(classes=2, layers=17, samples=60):
    generator = np.random.default_rng(0)
    start, end = generator.normal(size=(2, samples, 2))
    weights = np.linspace(0, 1, layers)[:, None, None]
    names = [f"class {i}" for i in range(classes)]
    return (1 - weights) * start + 3 * weights * end, np.arange(samples) % classes, names


def regions(classes=2, **more):
    x, y = np.linspace(-2, 2, 40), np.linspace(-1, 1, 20)
    X, Y = np.meshgrid(x, y)
    grid = 1 / (1 + np.exp(-4 * X * Y)) if classes == 2 else np.floor((X + 2) / 4.001 * classes).astype(int)
    points = np.random.default_rng(0).uniform(-1, 1, size=(30, 2))
    names = [f"class {i}" for i in range(classes)]
    return plots.decision_regions(x, y, grid, points, np.arange(30) % classes, names, **more)


class TestStartCurves:
    def test_the_best_at_the_end_stands_in_front(self):
        starts = [epochs(3, loss=[3, 2, 1.5]), epochs(3, loss=[4, 2, 1]), epochs(3, loss=[1, np.nan, np.nan])]
        [ax] = plots.start_curves(starts).axes
        assert [line.get_label() for line in ax.lines] == ["the other starts", "the other starts", "start 2"]
        np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [4, 2, 1])
        assert ax.lines[-1].get_linewidth() > ax.lines[0].get_linewidth()

    @pytest.mark.parametrize("starts", [[], [[]]])
    def test_nothing_to_draw_is_refused(self, starts):
        with pytest.raises(ValueError, match="no epoch of a start"):
            plots.start_curves(starts)


class TestTrainingCurves:
    def test_loss_and_accuracy(self):
        score = np.linspace(0.5, 1, 50)
        figure = plots.training_curves(
            epochs(50, loss=np.linspace(1, 0.5, 50), train_accuracy=score, validation_accuracy=score - 0.1)
        )
        loss, accuracy = figure.axes
        assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
        assert [line.get_label() for line in accuracy.lines] == ["train", "validation"]
        np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), score)
        assert loss.get_yscale() == "linear"
        assert overhang(figure) < 0

    def test_regression_shows_the_error(self):
        figure = plots.training_curves(epochs(3, loss=[3, 2, 1], validation_error=[3, 2, 1]))
        assert figure.axes[1].get_ylabel() == "error"

    def test_a_loss_alone_needs_one_panel(self):
        assert len(plots.training_curves(epochs(2, loss=[2, 1])).axes) == 1

    @pytest.mark.parametrize(("last", "scale"), [(1e-3, "log"), (0.5, "linear"), (0.0, "linear"), (-1.0, "linear")])
    def test_scale_of_the_loss(self, last, scale):
        figure = plots.training_curves(epochs(3, loss=[1.0, 0.8, last]))
        assert figure.axes[0].get_yscale() == scale

    def test_one_epoch_is_seen(self):
        figure = plots.training_curves(epochs(1, loss=[0.7], train_accuracy=[0.5], validation_accuracy=[0.5]))
        for ax in figure.axes:
            assert all(line.get_marker() == "o" for line in ax.lines)
            assert ax.get_xlim() == (0.5, 1.5)
        assert overhang(figure) < 0

    def test_epochs_without_validation_are_passed_over(self):
        history = epochs(4, loss=[4, 3, 2, 1], validation_accuracy=[0.5, None, None, 0.9])
        del history[2]["validation_accuracy"]
        np.testing.assert_array_equal(plots.training_curves(history).axes[1].lines[0].get_xdata(), [1, 4])

    @pytest.mark.parametrize("loss", [[1, 0.5, np.nan, np.nan], [1, np.inf, 1, 1], [np.nan] * 4])
    def test_divergence_is_marked(self, loss):
        figure = plots.training_curves(epochs(4, loss=loss, train_accuracy=[0.5, 0.6, np.nan, 0.5]))
        lost = int(np.flatnonzero(~np.isfinite(loss))[0]) + 1
        (mark,) = [line for line in figure.axes[0].lines if line.get_gid() == "diverged"]
        assert mark.get_xdata()[0] == lost
        assert f"not finite from epoch {lost} on" in words(figure)
        assert overhang(figure) < 0

    def test_learning_rate_is_drawn_if_it_changes(self):
        constant = plots.training_curves(epochs(3, loss=[3, 2, 1], learning_rate=[0.1, 0.1, 0.1]))
        changing = plots.training_curves(epochs(3, loss=[3, 2, 1], learning_rate=[0.1, 0.1, 0.001]))
        assert len(constant.axes) == 1
        assert changing.axes[1].get_ylabel().startswith("learning rate")
        assert changing.axes[1].get_yscale() == "log"

    def test_no_epoch(self):
        with pytest.raises(ValueError, match="Train for at least one epoch"):
            plots.training_curves([])


class TestDecisionRegions:
    def test_probability_with_points(self):
        figure = regions(title="Swiss roll", names=("length", "width $"))
        ax, bar = figure.axes
        assert ax.get_aspect() == 1
        assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-1, 1))
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("length", "width $")
        assert len(samples(ax)) == 30
        assert bar.get_ylabel() == "probability of class 1"
        assert {"Swiss roll", "class 0", "class 1"} <= set(words(figure))
        assert overhang(figure) < 0

    def test_misclassified_samples_are_ringed(self):
        predicted = np.arange(30) % 2
        predicted[[3, 8, 9]] = 1 - predicted[[3, 8, 9]]
        figure = regions(predicted=predicted)
        (rings,) = [dots for dots in figure.axes[0].collections if dots.get_gid() == "misclassified"]
        np.testing.assert_array_equal(rings.get_offsets(), samples(figure.axes[0])[[3, 8, 9]])
        assert "misclassified: 3 of 30" in legend(figure)

    def test_many_classes(self):
        figure = regions(classes=5, predicted=np.arange(30) % 5)
        assert len(figure.axes) == 1
        assert legend(figure) == [f"class {i}" for i in range(5)] + ["misclassified: 0 of 30"]
        assert overhang(figure) < 0

    def test_a_classifier_that_never_changes_its_mind_or_is_not_finite(self):
        x = np.linspace(0, 1, 5)
        for probability in (np.full((5, 5), 0.9), np.full((5, 5), np.nan)):
            figure = plots.decision_regions(x, x, probability, [[0.5, 0.5]], [0], ["no", "yes"])
            assert overhang(figure) < 0

    def test_errors_teach(self):
        x = np.linspace(0, 1, 5)
        with pytest.raises(ValueError, match=r"got \(5,\), \(5,\) and \(4, 5\)"):
            plots.decision_regions(x, x, np.zeros((4, 5)), [[0, 0]], [0], ["a", "b"])
        with pytest.raises(ValueError, match="index of the most probable class"):
            plots.decision_regions(x, x, np.zeros((5, 5)), [[0, 0]], [0], ["a", "b", "c"])
        with pytest.raises(ValueError, match=r"indices from 0 to 1 .* got values such as \[2\]"):
            plots.decision_regions(x, x, np.zeros((5, 5)), [[0, 0]], [2], ["a", "b"])
        with pytest.raises(ValueError, match=r"`predicted` for each of 1 samples; got shape \(2,\)"):
            plots.decision_regions(x, x, np.zeros((5, 5)), [[0, 0]], [1], ["a", "b"], predicted=[0, 1])
        with pytest.raises(ValueError, match="points in the plane"):
            plots.decision_regions(x, x, np.zeros((5, 5)), [[0, 0, 0]], [1], ["a", "b"])


class TestFeaturesByLayer:
    @pytest.mark.parametrize("layers", [0, 1, 11, 64, 127, 1024])
    def test_few_panels_with_the_first_and_the_last_layer(self, layers):
        figure = plots.features_by_layer(*cloud(layers=layers + 1, samples=10))
        titles = [ax.get_title(loc="left") for ax in figure.axes]
        assert min(layers + 1, 8) <= len(titles) <= 12
        assert titles[0] == "input"
        if layers:
            assert titles[-1] == f"layer {layers}"
        shown = [0, *[int(title.removeprefix("layer ")) for title in titles[1:]]]
        assert np.ptp(np.diff(shown)) <= 1 if layers > 1 else True

    def test_all_panels_look_through_the_same_window(self):
        coordinates, labels, classes = cloud()
        figure = plots.features_by_layer(coordinates, labels, classes, layers=[0, 3, 16], explained=[0.6, 0.25])
        assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
        for ax, layer in zip(figure.axes, (0, 3, 16), strict=True):
            np.testing.assert_array_equal(samples(ax), coordinates[layer])
        assert "component 1 (60% of the variance)" in words(figure)
        assert legend(figure) == classes

    def test_an_outlier_does_not_set_the_window_and_is_told(self):
        coordinates, labels, classes = cloud(samples=200)
        plain = plots.features_by_layer(coordinates, labels, classes, layers=[0, 16])
        coordinates[16, 5] = [1e4, 0]
        coordinates[16, 6] = np.nan
        figure = plots.features_by_layer(coordinates, labels, classes, layers=[0, 16])
        assert np.ptp(figure.axes[0].get_xlim()) < 1.2 * np.ptp(plain.axes[0].get_xlim())
        window = np.array([figure.axes[1].get_xlim(), figure.axes[1].get_ylim()])
        outside = (~((coordinates[16] >= window[:, 0]) & (coordinates[16] <= window[:, 1])).all(axis=1)).sum()
        assert outside >= 2
        assert f"{outside} outside" in words(figure)
        assert overhang(figure) < 0

    def test_nothing_finite_and_nothing_moving(self):
        for value in (np.nan, 1.0):
            figure = plots.features_by_layer(np.full((3, 4, 2), value), [0, 1, 0, 1], ["a", "b"])
            assert overhang(figure) < 0

    def test_thirty_classes_stay_distinct(self):
        figure = plots.features_by_layer(*cloud(classes=30, layers=3))
        (box,) = figure.findobj(Legend)
        looks = {(line.get_marker(), line.get_markerfacecolor()) for line in box.get_lines()}
        assert len(looks) == 30
        assert overhang(figure) < 0

    def test_no_class_is_lost_when_colours_and_markers_run_out(self):
        figure = plots.features_by_layer(*cloud(classes=90, layers=2, samples=90))
        assert [len(samples(ax)) for ax in figure.axes] == [90, 90]

    def test_errors_teach(self):
        coordinates, labels, classes = cloud(layers=3)
        with pytest.raises(ValueError, match=r"layers 0 to 2; got \[5\]"):
            plots.features_by_layer(coordinates, labels, classes, layers=[5])
        with pytest.raises(ValueError, match="principal_components"):
            plots.features_by_layer(np.zeros((3, 4, 8)), labels, classes)
        with pytest.raises(ValueError, match="each of 60 samples"):
            plots.features_by_layer(coordinates, labels[:5], classes)
        with pytest.raises(ValueError, match="encode the labels"):
            plots.features_by_layer(coordinates, labels + 0.5, classes)


class TestAnimateFeatures:
    def test_frames_and_durations(self, tmp_path):
        path = plots.animate_features(*cloud(layers=33), tmp_path / "film.gif", frames=9)
        assert [file.name for file in tmp_path.iterdir()] == ["film.gif"]
        with Image.open(path) as film:
            assert film.n_frames == 9
            assert film.info["loop"] == 0
            durations = []
            for frame in range(9):
                film.seek(frame)
                durations.append(film.info["duration"])
                assert film.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
        assert durations[-1] == max(durations) == 2500
        assert len(set(durations[1:-1])) == 1

    def test_a_film_of_many_layers_stays_small(self, tmp_path):
        path = plots.animate_features(*cloud(layers=257, samples=500), tmp_path / "film.gif", frames=20)
        with Image.open(path) as film:
            assert film.n_frames == 20
        assert path.stat().st_size < 500_000  # sixty frames: 1.5 MB

    def test_few_layers_and_diverged_ones(self, tmp_path):
        coordinates, labels, classes = cloud(layers=3)
        coordinates[2] = np.nan
        with Image.open(plots.animate_features(coordinates, labels, classes, tmp_path / "a.gif")) as film:
            assert film.n_frames == 3
        with Image.open(plots.animate_features(coordinates[:1], labels, classes, tmp_path / "b.gif")) as film:
            assert getattr(film, "n_frames", 1) == 1

    def test_errors_teach(self, tmp_path):
        with pytest.raises(ValueError, match=r"end in \.gif"):
            plots.animate_features(*cloud(), tmp_path / "film.mp4")
        with pytest.raises(ValueError, match="at least 2"):
            plots.animate_features(*cloud(), tmp_path / "film.gif", frames=1)
        assert not list(tmp_path.iterdir())


class TestConfusionMatrix:
    def test_counts_are_written_and_empty_cells_quiet(self):
        figure = plots.confusion_matrix([[1200, 3, 0], [0, 7, 0], [0, 0, 0]], ["a", "b", "c"])
        assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1\u2009200", "3", "7"]
        np.testing.assert_allclose(
            figure.axes[0].images[0].get_array(), [[1200 / 1203, 3 / 1203, 0], [0, 1, 0], [0, 0, 0]]
        )
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
        assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted class", "true class")

    @pytest.mark.parametrize("size", [1, 2, 10, 20, 21, 30])
    def test_any_number_of_classes_fits(self, size):
        names = [f"quite a long name for class {i} of many" for i in range(size)]
        figure = plots.confusion_matrix(np.full((size, size), 12345), names)
        assert overhang(figure) < 0
        assert len(figure.axes[0].texts) == (size**2 if size <= 20 else 0)
        assert all(len(label.get_text()) <= 24 for label in figure.axes[0].get_xticklabels())

    def test_errors_teach(self):
        with pytest.raises(ValueError, match=r"2 classes need counts of shape \(2, 2\)"):
            plots.confusion_matrix(np.zeros((3, 3)), ["a", "b"])


class TestPredictedAgainstTrue:
    def test_square_with_the_name_of_the_quantity(self):
        figure = plots.predicted_against_true([1, 2, 3], [1, 2, 5], "price (k$)")
        (ax,) = figure.axes
        assert ax.get_aspect() == 1
        assert ax.get_xlim() == ax.get_ylim()
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("true price (k$)", "predicted price (k$)")
        np.testing.assert_array_equal(samples(ax), [[1, 1], [2, 2], [3, 5]])
        assert overhang(figure) < 0

    def test_what_is_not_finite_is_told(self):
        assert "1 of 2 not finite" in words(plots.predicted_against_true([1, 2], [np.nan, 2], "y"))
        figure = plots.predicted_against_true([1, 2], [np.nan, np.inf], "y")
        assert "2 of 2 not finite" in words(figure)
        assert overhang(figure) < 0

    def test_errors_teach(self):
        with pytest.raises(ValueError, match="got 1 and 2"):
            plots.predicted_against_true([1, 2], [1], "y")


@pytest.fixture
def figure():
    return plots.predicted_against_true([1, 2], [1, 2], "y")


class TestSave:
    def test_the_file_is_whole_and_alone(self, figure, tmp_path):
        path = plots.save(figure, tmp_path / "a.png")
        plots.save(figure, str(path))  # once more, over the old one
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 600

    def test_an_svg_is_one_and_has_the_same_bytes_again(self, figure, tmp_path):
        once_more = plots.predicted_against_true([1, 2], [1, 2], "y")
        first = plots.save(figure, tmp_path / "a.svg").read_bytes()
        again = plots.save(once_more, tmp_path / "b.SVG").read_bytes()
        assert first.startswith(b"<?xml")
        assert b"</svg>" in first
        assert first == again

    def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(self, figure, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        path.write_bytes(b"old")
        monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            plots.save(figure, path)
        assert path.read_bytes() == b"old"
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]

    def test_errors_teach(self, figure, tmp_path):
        with pytest.raises(ValueError, match=r"end in \.png or \.svg"):
            plots.save(figure, tmp_path / "a.jpeg")
        with pytest.raises(FileNotFoundError, match="no folder"):
            plots.save(figure, tmp_path / "missing" / "a.png")


NAMES = ["<script>", "_hidden", "$\\frac", "a very long name that does not end where a reader would like it to end"]


def test_names_are_drawn_as_they_stand(tmp_path):
    coordinates, labels, _ = cloud(classes=4)
    for figure in (
        plots.features_by_layer(coordinates, labels, NAMES),
        plots.confusion_matrix(np.eye(4, dtype=int), NAMES),
    ):
        plots.save(figure, tmp_path / "names.png")
        assert set(NAMES[:3]) <= set(words(figure))
        assert "a very long name that d…" in words(figure)


@pytest.mark.long
def test_nothing_global_is_touched(tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save(regions(), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    code = "import hdnn.plots, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_users_dark_style_does_not_leak_in():
    with matplotlib.rc_context({"text.color": "white", "axes.labelcolor": "white", "axes.facecolor": "black"}):
        figure = plots.training_curves(epochs(2, loss=[2, 1], train_accuracy=[0.1, 0.2]))
    for ax in figure.axes:
        assert to_hex(ax.get_facecolor()) == "#ffffff"
        assert to_hex(ax.xaxis.label.get_color()) == "#222222"
    for box in figure.findobj(Legend):
        assert {to_hex(text.get_color()) for text in box.get_texts()} == {"#222222"}
