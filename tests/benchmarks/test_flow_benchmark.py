"""Peers compute the flow, whoever does not is refused by name, and the report holds every regime and every peer."""

import importlib
import json
import os

import pytest
import torch

import flow
import machine
import peers
from hdnn.bench import Regime, truth

TORCH = [peers.OURS, peers.OWN_EAGER, peers.BY_HAND]


def errors(results):
    return {(result["peer"], result["variant"]): result["error"] for result in results}


@pytest.mark.parametrize("model", ["h1", "h2"])
def test_loops_by_hand_compute_the_flow(model):
    results = peers.measure(Regime(6, 5, 20, model), 0.01, TORCH)
    assert [result["peer"] for result in results] == [*TORCH, peers.BY_HAND]
    for result in results:
        assert result["error"] < 1e-5
        assert 0 < result["minimum"] <= result["median"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend
def test_every_peer_computes_the_flow():
    pytest.importorskip("jax")
    pytest.importorskip("diffrax")
    pytest.importorskip("torchdiffeq")
    results = peers.measure(Regime(4, 3, 20), 0.01)
    assert {result["peer"] for result in results} == {peer for peer, _ in peers.builders("h1")}
    assert [result.get("reason") for result in results] == [None] * len(results)
    assert max(errors(results).values()) < 1e-5


def test_a_peer_that_computes_something_else_is_refused(monkeypatch):
    def wrong(y, K, b, h):
        return peers.columns(y, K, b, 1.01 * h)

    monkeypatch.setattr(peers, "rows", wrong)
    refused, good = peers.measure(Regime(4, 5, 20), 0.01, [peers.BY_HAND])
    assert refused["reason"].startswith("FloatingPointError: The PyTorch loop by hand samples first pass is off by")
    assert "minimum" not in refused
    assert good["error"] < 1e-5


def test_a_peer_that_fails_says_how(monkeypatch):
    def broken(y, K, b, h):
        raise RuntimeError("no compiler\nmany more lines")

    monkeypatch.setattr(peers, "rows", broken)
    failed, _ = peers.measure(Regime(4, 5, 20), 0.01, [peers.BY_HAND])
    assert failed["reason"] == "RuntimeError: no compiler"


def test_nothing_is_reported_where_ours_is_wrong(monkeypatch):
    monkeypatch.setattr(peers, "truth", lambda flow, y: [1.1 * x for x in truth(flow, y)])
    with pytest.raises(FloatingPointError, match="hdnn eager"):
        peers.measure(Regime(4, 5, 20), 0.01, [peers.OWN_EAGER])


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    real = importlib.import_module

    def without(name, *more):
        if name in ("jax", "torchdiffeq"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", without)
    results = peers.measure(Regime(4, 5, 20), 0.01, [peers.SCAN, peers.TORCHDIFFEQ])
    assert {result["reason"] for result in results} == {"not installed (jax)", "not installed (torchdiffeq)"}


def test_the_drive_of_the_canonical_interconnection():
    problem, _ = Regime(6, 4, 3).problem("eager")
    torch.testing.assert_close(peers.drive(problem.weight, 0.5), 0.5 * problem.weight @ problem.J.T)


@pytest.mark.long
def test_children_are_pinned_and_report_json():
    before = os.sched_getaffinity(0)
    results = machine.child("peers.py", (4, 3, 10, "--seconds", 0.01, "--peers", *TORCH), cores=1)
    assert {result["peer"] for result in results} == set(TORCH)
    assert os.sched_getaffinity(0) == before


def test_a_child_that_fails_ends_the_benchmark_with_its_words():
    with pytest.raises(SystemExit, match="following arguments are required: data"):
        machine.child("accuracy.py", (), cores=1)


def test_cores_that_are_not_there():
    with pytest.raises(SystemExit, match="10000 cores were asked for; this process may use 1 to"):
        machine.require_cores(10_000)


def test_a_report_that_could_not_be_written(tmp_path):
    with pytest.raises(SystemExit, match=r"no folder '.*absent' to write a\.md to"):
        machine.require_folder(tmp_path / "absent" / "a.md")
    machine.require_folder(tmp_path / "a.md")
    machine.require_folder(None)


# The report, from made-up numbers


def made_up(seconds):
    return [
        {"peer": peers.OURS, "variant": "", "minimum": 1e-3, "median": 2e-3, "calls": 9, "error": 1e-7},
        {"peer": peers.OWN_EAGER, "variant": "", "minimum": 9e-3, "median": 9e-3, "calls": 9, "error": 1e-7},
        {"peer": peers.BY_HAND, "variant": peers.SAMPLES, "minimum": 8e-3, "median": 8e-3, "calls": 9, "error": 1e-7},
        {"peer": peers.BY_HAND, "variant": peers.FEATURES, "minimum": 7e-3, "median": 8e-3, "calls": 9, "error": 1e-7},
        {"peer": peers.SCAN, "variant": peers.FEATURES, "minimum": seconds, "median": 8e-3, "calls": 9, "error": 1e-7},
        {"peer": peers.DIFFRAX, "variant": peers.SAMPLES, "reason": "not installed (diffrax)"},
    ]


@pytest.fixture
def text():
    measured = {
        1: {regime: made_up(5.25e-3) for regime in [*flow.GOALS, *flow.PARTITIONED]},
        2: {regime: made_up(2.5e-3) for regime in [*flow.GOALS, *flow.PARTITIONED]},
    }
    return "\n".join(flow.report(machine.facts(), measured))


def test_the_report_holds_every_regime_and_its_verdict(text):
    for regime, goal in flow.GOALS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {regime} | {goal:g} |")]
        one, two = ("met" if over >= goal else "missed" for over in (5.25, 2.5))
        assert f"| JAX scan ᶠ | 5.25 ({one}) | 8.00 | 7.00 | JAX scan ᶠ | 2.50 ({two}) | 8.00 | 7.00 |" in row
    for regime in flow.PARTITIONED:
        assert f"| {regime} | – |" in text


def test_the_report_holds_every_peer(text):
    assert "| PyTorch loop by hand | 7 / 8 ᶠ |" in text
    assert "| diffrax Euler | not installed (diffrax) |" in text
    assert f"- diffrax Euler ({peers.SAMPLES}), h1 4·64·125, one core: not installed (diffrax)" in text


def test_the_report_says_where_it_ran(text):
    for name in ("torch", "numpy", "jax", "diffrax", "torchdiffeq"):
        assert f"{name} " in text
    assert "native backend" in text
    assert "commit" in text


def test_reports_are_written_with_their_numbers(tmp_path, capsys):
    machine.publish(tmp_path / "a.md", ["# A"], {"numbers": [1]})
    assert capsys.readouterr().out == "# A\n\n"
    assert (tmp_path / "a.md").read_text() == "# A\n"
    assert json.loads((tmp_path / "a.json").read_text()) == {"numbers": [1]}


def test_regimes_can_be_named():
    assert flow.chosen_regimes(["4·64·125", "8,4,78400"]) == [Regime(4, 64, 125), Regime(8, 4, 78400)]
    assert flow.chosen_regimes(None) == [*flow.GOALS, *flow.PARTITIONED]


def test_the_figure_shows_three_panels():
    import figure

    def point(regime):
        return {"features": regime.features, "layers": regime.layers, "batch": regime.batch, "peers": made_up(1e-3)}

    drawn = figure.draw({name: [point(regime) for regime in regimes] for name, regimes in figure.SWEEPS.items()})
    assert [ax.get_xlabel() for ax in drawn.axes] == ["layers N", "features n", "samples B"]
    for ax, regimes in zip(drawn.axes, figure.SWEEPS.values(), strict=True):
        (ours, *_) = ax.get_lines()
        assert len(ax.get_lines()) == len(figure.SHOWN)
        assert list(ours.get_ydata()) == pytest.approx([1e6 / (each.layers * each.batch) for each in regimes])
