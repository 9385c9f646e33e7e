"""The statements of the theory as the benchmark reports them: few flows here, all of them among the slow tests."""

from __future__ import annotations

import json
import math

import pytest

import theory
from families import PRESETS
from hdnn.activations import relu, sigmoid, softplus, tanh

ACTIVATIONS = {"tanh": tanh, "relu": relu, "softplus": softplus, "sigmoid": sigmoid}
COUNTS = [20, pytest.param(1000, marks=pytest.mark.slow)]

# ‖dy(t)/dy(0)‖₂ of the counterexample of the TAC paper at t = 5, 10, 20, …, computed once for this project with
# another program; second component first to t = 200.
EXACT = [1.91, 3.45, 6.37, 14.6, 31.6, 58.8, 156, 292, 638]
FIRST = [1.91, 3.49, 6.60, 14.9, 32.7, 66.4, 158, 298, 638]
SECOND = [1.91, 3.40, 6.15, 14.6, 29.3, 62.1]


def to_three_digits(values: list[float]) -> list[float]:
    return [float(f"{value:.3g}") for value in values]


@pytest.mark.parametrize("count", [5, pytest.param(9, marks=pytest.mark.slow)])
def test_the_counterexample_solved_exactly(count: int) -> None:
    assert to_three_digits(theory.exact_norms(theory.TIMES[:count], 1e-9)) == EXACT[:count]


@pytest.mark.parametrize("count", [6, pytest.param(9, marks=pytest.mark.slow)])
def test_the_counterexample_by_symplectic_euler(count: int) -> None:
    assert to_three_digits(theory.discrete_norms("p", theory.TIMES[:count])) == FIRST[:count]
    assert to_three_digits(theory.discrete_norms("q", theory.TIMES[:6])) == SECOND


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_no_norm_falls_below_one_or_above_its_bound(preset: str, count: int) -> None:
    found = theory.sweep(preset, range(count))
    assert found.flows == count
    assert not found.diverged
    assert found.smallest >= math.log(1 - 1e-9)
    assert found.excess <= 1e-9
    assert found.largest > math.log(50)  # flows that stay at 1 would show nothing


@pytest.mark.parametrize("count", COUNTS)
def test_symplectic_pairs(count: int) -> None:
    matrices, error = theory.symplectic_pairs(range(count))
    assert matrices >= 30 * count
    assert error < 1e-8


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_imaginary_spectra(activation: object, count: int) -> None:
    found = theory.spectra(activation, range(count))
    assert sum(found.answers.values()) == count
    assert found.answers["yes"] > count / 10
    assert found.scaled < 1e-14
    assert (found.answers["no"] > 0) == (activation is relu)
    assert found.least_refused is None or found.least_refused > 1e10


def test_what_falls_below_one() -> None:
    assert theory.runge_kutta_norm(1) == pytest.approx(0.994, abs=5e-4)
    assert theory.runge_kutta_norm(512) == pytest.approx(0.044, abs=5e-4)
    assert theory.mlp_norms().max() < 1e-9


def test_the_report_is_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    lines, raw = theory.report(2, times=(5, 10))
    assert "| exact ODE | 1.909 | 3.446 |" in lines
    assert sum(line.startswith("| ms") for line in lines) == 3
    assert json.loads(json.dumps(raw))["bounds"]["h2"]["flows"] == 2
    assert capsys.readouterr().out == ""
