"""The parts of the device script that time flows, on the processor and small: that they run is all that is known."""

import argparse

import pytest
import torch

import device
import device_flows
import trainings
from hdnn.bench import Regime

OPTIONS = argparse.Namespace(device="cpu", seconds=0.05, batch=3, mnist=None)


def test_rows_of_flows(monkeypatch):
    monkeypatch.setattr(device_flows, "DEPTHS", (2,))
    row, memory = device_flows.flows(OPTIONS, (Regime(4, 2, 5, "h2"),))
    assert row["flow"] == "h2 4·2·5"
    assert row["ms"]["eager"] > 0
    assert row["failed"] == {}
    assert memory["layers"] == 2
    assert memory["eager"] is None


def test_whole_trainings(monkeypatch):
    case = trainings.made("Swiss roll, 4 layers", None)
    monkeypatch.setattr(trainings, "made", lambda name, folder: case)
    case = trainings.Case(case.network, case.x[:50], case.y[:50], case.recipe, 1.0)
    found = list(device_flows.whole(OPTIONS, ("Swiss roll, 4 layers",)))
    assert [piece["backend"] for piece in found] == ["eager", "triton"]
    assert found[0]["us_per_step"] > 0


@pytest.mark.parametrize("check", [check for check in device_flows.CHECKS if check is not device_flows.both])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_checks_hold_on_the_processor(check):
    torch.manual_seed(0)
    assert check("cpu") < 1e-5
    assert check in device.CHECKS
