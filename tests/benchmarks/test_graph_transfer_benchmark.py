"""The transfer task is honest, its models are what they are called, and its report says what was found."""

import csv
import json
import math

import pytest
import torch

import graph_transfer as transfer
import machine


def run(model="h2", start="wave", rate=1e-3, seed=0, iterations=3, nodes=6, layers=6):
    return transfer.Run(model, start, rate, seed, iterations, nodes, layers)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_map_of_single_nodes_helps():
    """The target's own number says nothing of the source's; flags stand at both ends."""
    x, y = transfer.samples(20_000, 5, generator())
    assert torch.equal(y, x[:, 0, 0])
    together = torch.stack((x[:, -1, 0], y))
    assert abs(torch.corrcoef(together)[0, 1]) < 0.03
    assert x[:, :, 1].sum() == x[:, :, 2].sum() == len(x)
    assert abs(y.var() - 1 / 12) < 2e-3
    assert pytest.approx(-1.08, abs=0.005) == transfer.CONSTANT


@pytest.mark.parametrize("start", transfer.STARTS)
@pytest.mark.parametrize("model", transfer.MODELS)
def test_all_models_reach_the_target_but_the_pointwise_one(model, start):
    torch.manual_seed(0)
    made = transfer.Transfer(run(model, start))
    x, _ = transfer.samples(4, 6, generator())
    g = torch.func.jacrev(lambda x: made(x).sum())(x)
    assert bool(g[:, 0].abs().max() > 0) is (model != "pointwise")
    assert g[:, -1].abs().max() > 0


def test_the_pointwise_control_is_the_flow_without_its_neighbours():
    """At the target alone it computes what it would on the whole line."""
    torch.manual_seed(0)
    made = transfer.Transfer(run("pointwise", "random"))
    space = transfer.Graph(transfer.line(6), normalization="symmetric")
    whole = transfer.body("pointwise", space, 6)
    whole.load_state_dict(made.body.state_dict())
    x, _ = transfer.samples(4, 6, generator())
    torch.testing.assert_close(whole(made.lift(x))[:, -1], made.states(x))
    assert not made.body.K[..., 1].any()


def test_flows_start_as_the_wave_equation_they_name():
    torch.manual_seed(0)
    K = transfer.Transfer(run("h2")).body.K
    half = transfer.FEATURES // 2
    assert torch.equal(K[0, ..., 0], torch.eye(transfer.FEATURES))
    assert torch.equal(K[0, half:, half:, 1], -torch.eye(half))
    assert not K[0, :half, :, 1].any()


def test_the_first_readout_fits_best():
    torch.manual_seed(0)
    made = transfer.Transfer(run("h2"))
    before = transfer.error(made, 6, 1)
    made.fit_head(*transfer.samples(512, 6, generator()))
    assert transfer.error(made, 6, 1) < min(before, transfer.CONSTANT)


def test_every_model_gets_the_same_trials():
    trials = transfer.trials(list(transfer.MODELS), 10, 50, 50)
    of = {model: [(t.start, t.rate, t.iterations) for t in trials if t.model == model] for model in transfer.MODELS}
    assert all(each == of["h2"] for each in of.values())
    assert len({t.seed for t in trials} & set(range(10))) == 0
    assert transfer.VALIDATION != transfer.TEST


def test_the_report_and_the_lines_beside_it(tmp_path):
    found = [transfer.train(run("h2", start, rate)) for start in transfer.STARTS for rate in transfer.RATES]
    best = transfer.chosen(found, "h2")
    assert best["validation"] == min(row["validation"] for row in found)
    finals = [{**best, "seed": seed, "test": -2.5 - 0.1 * seed} for seed in range(3)]
    settings = type("Settings", (), {"nodes": 6, "layers": 6, "trial_iterations": 3, "iterations": 3})
    text = "\n".join(transfer.report(machine.facts(), settings, found, finals))
    assert "-2.500, -2.600, -2.700 | -2.600 ± 0.100 | 0.058 |" in text
    assert f"{best['validation']:.3f}" in text
    assert "the worst is -2.500: **FAILED**" in text
    transfer.write_csv(tmp_path / "x.csv", finals)
    with (tmp_path / "x.csv").open() as file:
        assert [float(row["test"]) for row in csv.DictReader(file)] == [-2.5, -2.6, -2.7]
    assert math.isnan(transfer.spread([1.0])[1])


@pytest.mark.long
def test_what_is_known_is_not_done_again(tmp_path):
    done, fresh = run("h2", seed=0), run("pointwise", seed=1)
    row = transfer.train(done)
    (tmp_path / "x.json").write_text(json.dumps({"trials": [row], "finals": []}))
    known = transfer.known_of(tmp_path / "x.md")
    found = transfer.all_of([done, fresh], 1, known)
    assert found[0] == row
    assert found[1]["model"] == "pointwise"
    assert transfer.known_of(tmp_path / "none.md") == transfer.known_of(None) == []
