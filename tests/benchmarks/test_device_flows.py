"""The parts of the device script that time flows, on the processor and small: that they run is all that is known."""

import argparse

import pytest
import torch

import device
import device_flows
import device_sizes
import trainings
from hdnn.bench import Regime

ONLY_THERE = (device_flows.both, device_flows.compiled_flow)  # Triton, and half a minute of compilation
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
    assert [piece["by"] for piece in found] == ["eager", "triton"]
    assert found[0]["us_per_step"] > 0


@pytest.mark.long
def test_sizes_and_tiles(monkeypatch):
    monkeypatch.setattr(device_sizes, "BATCHES", (3, 5))
    whole = device_sizes._pass
    monkeypatch.setattr(device_sizes, "_pass", lambda regime, backend, options: whole(regime, "eager", options))
    found = list(device_sizes.sizes(OPTIONS, (2, 4)))
    assert [(piece["model"], piece["features"]) for piece in found] == [("h1", 2), ("h1", 4), ("h2", 4)]
    assert all(row["triton"] > 0 for row in found[0]["ms"])
    monkeypatch.setattr(device_sizes, "TILED", (5,))
    monkeypatch.setattr(device_sizes, "READY", 2.0)
    (row,) = device_sizes.tiles(OPTIONS, (2,))
    assert row["failed"] == {}
    assert row["now"] in row["ms"]["5"]
    assert len(row["ms"]["5"]) > 10


@pytest.mark.parametrize("check", [check for check in device_flows.CHECKS if check not in ONLY_THERE])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_checks_hold_on_the_processor(check):
    torch.manual_seed(0)
    assert check("cpu") < 1e-5
    assert check in device.CHECKS
