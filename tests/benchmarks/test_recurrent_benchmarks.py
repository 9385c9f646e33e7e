"""The benchmarks of recurrent networks: they agree before they time, go on where they stopped, and split fairly."""

import argparse
from pathlib import Path

import pytest
import torch

import hdnn
import linear_memory
import recurrent
import sequences
import time_series
from hdnn.kernels import native


def options(**changes):
    given = {
        "task": "adding", "model": "h2", "units": 8, "step": 0.1, "damping": None, "init_std": None,
        "input_scale": 1.0, "bias_scale": 1.0, "slow": 0.5, "length": 12, "coarse": 1, "steps": 6, "batch": 4,
        "rate": 0.01, "clip": 1.0, "look": 3, "seed": 0, "mnist": Path("none"), "begin": None, "store": None,
        "no_test": False, "norm": False, "readout": 0, "weight_decay": 0.0, "activation": "tanh",
        "recurrent_rate": 1.0, "seen": "last", "layers": 1, "taps": 3, "frequencies": None, "input_rate": 1.0,
        "smoothing": 0.0, "final": False,
    }  # fmt: skip
    return argparse.Namespace(**{**given, **changes})


def test_the_constant_answer_to_the_adding_problem():
    data = sequences.adding(20000, 30, torch.Generator().manual_seed(0))
    assert data.x[..., 1].sum(0).eq(2).all()
    assert (data.y - 1).square().mean() == pytest.approx(1 / 6, rel=0.03)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"norm": True, "readout": 2, "weight_decay": 0.1},
        {"activation": "relu", "recurrent_rate": 0.1, "seen": "all"},
        {"model": "signals", "units": 2},
        {"frequencies": (0.1, 0.5), "input_rate": 0.1},
    ],
    ids=str,
)
def test_a_run_goes_on_to_the_bit(tmp_path, monkeypatch, capsys, more):
    whole = sequences.run(options(**more))
    monkeypatch.setattr(sequences, "MINUTE", -1.0)  # every step is written
    store = tmp_path / "run.pt"
    monkeypatch.setattr(sequences, "batches", stopping(sequences.batches, 4))
    sequences.run(options(store=store, **more))
    monkeypatch.undo()
    assert torch.load(store, weights_only=True)["step"] == 4
    resumed = sequences.run(options(store=store, **more))
    assert resumed["test"] == whole["test"]
    assert len(resumed["history"]) == len(whole["history"])
    assert capsys.readouterr().out
    begun = sequences.run(options(begin=store, steps=1, **more))
    assert begun["test"] != sequences.run(options(steps=1, **more))["test"]


def test_small_pixels_pass_by_one_matrix():
    torch.manual_seed(0)
    M = linear_memory.matrix(argparse.Namespace(frequencies=(0.02, 0.6), damping=0.01))
    torch.manual_seed(0)
    rnn = hdnn.HamiltonianRNN(1, 128, step=0.1, damping=0.01, frequencies=(0.02, 0.6), dtype=torch.float64)
    u = torch.randn(784, 3, 1, dtype=torch.float64)
    wanted = u.squeeze(-1).T.float() @ M
    assert torch.allclose(rnn(1e-5 * u)[1][-1].float() / 1e-5, wanted, atol=1e-3 * float(wanted.abs().max()))


def test_the_recurrent_weights_get_their_share_of_the_rate(tmp_path):
    """One step of AdamW moves every number by the rate, whatever its gradient."""
    store = tmp_path / "run.pt"
    sequences.run(options(steps=1, recurrent_rate=0.1, input_rate=0.3, store=store))
    torch.manual_seed(0)
    before = dict(sequences.Model(options(), 2, 1, 12).named_parameters())
    after = torch.load(store, weights_only=True)["model"]
    moved = {name: (after[name] - value).abs().max().item() for name, value in before.items()}
    for name, far in moved.items():
        share = {"core.cells.0.weight": 0.1, "core.cells.0.input_weight": 0.3, "core.cells.0.bias": 0.3}.get(name, 1.0)
        assert far == pytest.approx(0.01 * share, rel=0.05)


def stopping(batches, at):
    def some(*arguments):
        for step, batch in batches(*arguments):
            if step >= at:
                return
            yield step, batch

    return some


@pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")
def test_a_report_of_those_that_agree():
    sizes = {"steps": 6, "units": 4, "batch": 3, "inputs": 1, "segment": 3, "repeats": 1}
    table = recurrent.report(argparse.Namespace(**sizes))
    assert "hdnn h2, native" in table
    assert "nn.LSTM" in table


@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_peers_have_about_as_many_parameters(model):
    ours = time_series.parameters(time_series.core("h2", 3, 0.1, None))
    assert time_series.parameters(time_series.core(model, 3, 0.1, None)) == pytest.approx(ours, rel=0.08)


def test_a_set_of_two_files(tmp_path, monkeypatch, capsys):
    rows = [f"{i % 2},{i % 2},{0.1 * i}:{'ab'[i % 2]}" for i in range(12)]
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"X_{part}.ts").write_text("@classLabel true a b\n@data\n" + "\n".join(rows) + "\n")
    monkeypatch.setattr(time_series, "UNITS", 8)
    monkeypatch.setattr(time_series, "RATES", (0.03,))
    monkeypatch.setattr(time_series, "OURS", ((0.03, None),))
    found = time_series.of_set(tmp_path, "X", 30)
    assert [each["model"] for each in found] == ["h2", "gru", "lstm"]
    assert all(len(each["test"]) == 5 for each in found)
    assert capsys.readouterr().out
