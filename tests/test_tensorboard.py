"""What TensorBoard is told is what `fit` returns."""

import sys

import numpy as np
import pytest
import torch

import hdnn
from hdnn.training import GradientRecorder
from hdnn.training.tensorboard import TensorBoardLogger, logging_to

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder):
    """All scalars of a folder: tag to (steps, values)."""
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: ([event.step for event in found.Scalars(tag)], [event.value for event in found.Scalars(tag)])
        for tag in found.Tags()["scalars"]
    }


def fitted(folder, task="classification", *, gradients=False, **recipe):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    flow = hdnn.h2(4, layers=4, horizon=1.0)
    if task == "classification":
        network, y = hdnn.vector_classifier(2, 2, flow), (x[:, 0] > 0).long()
    else:
        network, y = hdnn.vector_regressor(2, 1, flow), x[:, :1]
    recorder = GradientRecorder(network.flow)
    with TensorBoardLogger(folder, network.flow if gradients else None) as logger:
        history = hdnn.fit(network, x, y, hdnn.Recipe(epochs=3, **recipe), callbacks=[logger, recorder])
    return history, recorder


@pytest.mark.parametrize(("task", "score"), [("classification", "accuracy"), ("regression", "error")])
def test_every_number_of_every_epoch(tmp_path, task, score):
    history, _ = fitted(tmp_path, task, validation_fraction=0.25)
    found = scalars(tmp_path)
    tags = {"loss": "loss/train", f"train_{score}": f"{score}/train", "learning_rate": "learning_rate"}
    tags |= {f"validation_{name}": f"{name}/validation" for name in ("loss", score)} | {"seconds": "seconds"}
    for name, tag in tags.items():
        assert found[tag][0] == [1, 2, 3]
        np.testing.assert_allclose(found[tag][1], [record[name] for record in history], rtol=1e-6)
    assert len(found) == len(history[0]) - 1  # all but the epoch, which is the step


def test_gradients_are_those_of_the_last_step_of_an_epoch(tmp_path):
    _, recorder = fitted(tmp_path, gradients=True, batch_size=20)
    last = recorder.norms[2::3]
    found = scalars(tmp_path)
    for name, values in (("smallest", last.min(1)), ("mean", last.mean(1)), ("largest", last.max(1))):
        np.testing.assert_allclose(found[f"gradient/{name}"][1], values, rtol=1e-6)


def test_a_training_that_fails_leaves_what_was_written(tmp_path):
    def fail(progress):
        if progress.epoch == 2:
            raise RuntimeError("enough")

    x = torch.randn(10, 2)
    network = hdnn.vector_regressor(2, 1, hdnn.h2(4, layers=2, horizon=1.0))
    with pytest.raises(RuntimeError, match="enough"), TensorBoardLogger(tmp_path) as logger:
        hdnn.fit(network, x, x[:, :1], hdnn.Recipe(epochs=3), callbacks=[logger, fail])
    assert scalars(tmp_path)["loss/train"][0] == [1, 2]


def test_an_optional_folder(tmp_path):
    x = torch.randn(10, 2)
    for folder, count in ((tmp_path, 1), (None, 0)):
        with logging_to(folder) as callbacks:
            hdnn.fit(
                hdnn.vector_regressor(2, 1, hdnn.h2(4, layers=2, horizon=1.0)),
                x,
                x[:, :1],
                hdnn.Recipe(epochs=2),
                callbacks=callbacks,
            )
        assert len(callbacks) == count
    assert scalars(tmp_path)["loss/train"][0] == [1, 2]


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'hdnn\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)
