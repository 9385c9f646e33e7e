"""Native steps and `fit` train alike before they are timed, and trainings that differ are refused."""

import dataclasses

import pytest

import native_training
from hdnn.kernels import native
from trainings import CASES, made

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")


def short(name):
    """Four batches."""
    case = made(name, None)
    return dataclasses.replace(case, x=case.x[:500], y=case.y[:500])


@pytest.mark.parametrize("name", [name for name in CASES if name != "MNIST"])
def test_both_train_alike(name):
    found = native_training.measure(short(name), 1, 1)
    assert min(found.values()) > 0


def test_another_training_is_refused(monkeypatch):
    monkeypatch.setattr(native_training, "native", lambda case, epochs: 1.0)
    with pytest.raises(SystemExit, match="trainings differ"):
        native_training.measure(short("digits"), 1, 1)
