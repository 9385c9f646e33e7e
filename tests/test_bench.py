"""Timings are taken of what computes the right thing, in turns, and nothing is left changed."""

import json
from itertools import groupby

import pytest
import torch

from hdnn import Fixed, Flow, ForwardEuler, Skew, h1, tanh, upper_ones
from hdnn.bench import (
    SHORT,
    Pass,
    Regime,
    bench,
    disagreement,
    flow_pass,
    interleaved,
    require_agreement,
    tolerance,
    truth,
)
from hdnn.kernels import native

TINY = [Regime(4, 3, 10), Regime(6, 2, 5, "h2")]


def test_every_regime_has_finite_positive_numbers():
    result = bench(TINY, seconds=0.02, threads=1)
    assert [(row["model"], row["features"], row["layers"], row["batch"]) for row in result["regimes"]] == [
        ("h1", 4, 3, 10),
        ("h2", 6, 2, 5),
    ]
    assert (result["threads"], result["dtype"], result["native"]) == (1, "float32", native.Native().describe())
    assert result["device"] == "cpu"
    for row in result["regimes"]:
        for backend in ["eager", "native"] if native.available() else ["eager"]:
            assert 0 < row[f"{backend}_ms"] <= row[f"{backend}_median_ms"] < 1e4
            assert 0 <= row[f"{backend}_error"] < 1e-5
        if native.available():
            assert row["ratio"] == row["eager_ms"] / row["native_ms"]
    assert json.loads(json.dumps(result)) == result


def test_without_the_extension_eager_runs_alone(monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    (row,) = bench(TINY[:1], seconds=0.01)["regimes"]
    assert row["eager_ms"] > 0
    assert [row[name] for name in ("native_ms", "native_median_ms", "native_error", "ratio")] == [None] * 4


def test_threads_and_random_numbers_are_left_alone():
    torch.manual_seed(3)
    before, expected = torch.get_num_threads(), torch.rand(2)
    torch.manual_seed(3)
    assert bench(TINY[:1], seconds=0.01, threads=before + 1)["threads"] == before + 1
    assert torch.get_num_threads() == before
    assert torch.equal(torch.rand(2), expected)


def test_it_says_what_it_measures():
    said = []
    bench(TINY, seconds=0.01, announce=said.append)
    assert said == ["h1 4·3·10", "h2 6·2·5"]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="There is no device 'abacus'"):
        bench(TINY, device="abacus")


@pytest.mark.parametrize("choice", [{"seconds": 0}, {"seconds": float("nan")}, {"threads": 0}])
def test_choices_that_make_no_sense(choice):
    (name,) = choice
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        bench(TINY, **choice)


def test_the_short_benchmark_holds_both_methods():
    assert {regime.model for regime in SHORT} == {"h1", "h2"}


@pytest.mark.parametrize("regime", TINY, ids=str)
def test_the_truth_is_what_eager_computes_in_float64(regime):
    flow, y = regime.problem("eager")
    found = flow_pass(flow.double(), y.double()).results()
    assert len(found) == 4
    assert disagreement(found, truth(*regime.problem("eager"))) < 1e-14


@pytest.mark.parametrize("interconnection", [None, Fixed(upper_ones(4))], ids=["canonical", "upper_ones"])
def test_the_truth_knows_other_interconnections(interconnection):
    flow, y = h1(4, 3, step=0.1, interconnection=interconnection, dtype=torch.float64), torch.randn(5, 4).double()
    found = flow_pass(flow, y).results()
    assert disagreement(found, truth(flow, y)) < 1e-14


def test_the_truth_refuses_what_it_does_not_know():
    shared = h1(4, 3, step=0.1, shared=True)
    with pytest.raises(ValueError, match="own for every layer"):
        truth(shared, torch.randn(2, 4))


# A function that is wrong in one place alone must be seen.


@pytest.mark.parametrize("wrong", range(4), ids=["loss", "y", "weight", "bias"])
def test_one_wrong_result_is_a_disagreement(wrong):
    regime = TINY[0]
    true = truth(*regime.problem("eager"))
    found = flow_pass(*regime.problem("eager")).results()
    assert disagreement(found, true) < 1e-5
    found[wrong] = 1.01 * found[wrong]
    assert 0.009 < disagreement(found, true) < 0.011
    found[wrong] = found[wrong] * float("nan")
    assert disagreement(found, true) == float("inf")


def test_another_function_is_refused():
    regime = TINY[0]
    flow, y = regime.problem("eager")
    other = Flow(
        4, 3, step=flow.step, structure=Skew(), interconnection=flow.interconnection, activation=tanh,
        integrator=ForwardEuler(),
    )  # fmt: skip
    impostor = Pass(lambda: other(y).square().mean(), [y, flow.weight, flow.bias])
    error = disagreement(impostor.results(), truth(flow, y))
    assert error >= 1  # the weights took no part
    with pytest.raises(FloatingPointError, match=r"The impostor pass is off by .*, where 1\.0e-05 is allowed"):
        require_agreement("impostor", error, tolerance(1e-7))


@pytest.mark.parametrize(("eager", "allowed"), [(1e-8, 1e-5), (1e-5, 3e-5), (1.0, 1e-3)])
def test_the_tolerance_has_two_ends(eager, allowed):
    assert tolerance(eager) == pytest.approx(allowed)
    require_agreement("good", allowed, tolerance(eager))
    with pytest.raises(FloatingPointError):
        require_agreement("bad", 2 * allowed, tolerance(eager))
    with pytest.raises(FloatingPointError):
        require_agreement("undefined", float("nan"), tolerance(eager))


def test_functions_take_turns():
    calls = []
    timings = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=1e-9)
    turns = "".join(name for name, _ in groupby(calls))
    assert turns == "ab" * 5
    for timing in timings.values():
        assert 0 < timing.minimum <= timing.median
        assert timing.calls > 5


def test_a_long_call_counts_at_once(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    timings = interleaved({"long": lambda: None}, seconds=0.5)
    assert timings["long"].calls == 5
    assert timings["long"].minimum == timings["long"].median == 1.0
