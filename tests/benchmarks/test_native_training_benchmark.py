"""Native steps and `fit` train alike before they are timed, and trainings that differ are refused."""

import dataclasses

import pytest

import native_training
from hdnn.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")


@pytest.fixture
def short():
    """Four batches of each case, without what would have to compile."""
    made = native_training.cases(1)
    return [dataclasses.replace(case, x=case.x[:500], y=case.y[:500]) for case in made]


def test_all_train_alike(short, monkeypatch):
    monkeypatch.setattr(native_training.importlib.util, "find_spec", lambda name: None)
    for case in short:
        found = native_training.measure(case, 1)
        assert list(found) == [native_training.NATIVE, native_training.FIT]
        assert min(found.values()) > 0


def test_another_training_is_refused(short, monkeypatch):
    monkeypatch.setattr(native_training.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(native_training, "by_fit", lambda case: 1.0)
    with pytest.raises(SystemExit, match="the trainings differ"):
        native_training.measure(short[0], 1)
