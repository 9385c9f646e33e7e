"""The parts of the device script, on the processor and small: that they run is all that is known."""

import json
import time

import pytest
import torch

import device
import device_flows
import device_sizes
import device_steps
import hdnn
from device_steps import Step
from hdnn.bench import Regime

ONLY_THERE = (device_flows.both, device_flows.compiled_flow)  # Triton, and half a minute of compilation


def options(part, place, *more):
    line = ["--part", part, "--device", "cpu", "--small", "--seconds", "0.05", "--batch", "3", "--steps", "1"]
    return device.parsed([*line, "--out", str(place / "found.json"), *more])


def found(part, place, *more):
    """What a part writes."""
    chosen = options(part, place, *more)
    device.report(chosen, device.PARTS[part](chosen))
    assert [file.name for file in place.iterdir()] == ["found.json"]
    return json.loads(chosen.out.read_text())["found"]


def test_rows_of_flows(monkeypatch, tmp_path):
    monkeypatch.setattr(device_flows, "SMALL", (Regime(4, 2, 5, "h2"),))
    row, memory = found("flow", tmp_path)
    assert row["flow"] == "h2 4·2·5"
    assert row["ms"]["eager"] > 0
    assert row["failed"] == {}
    assert memory["layers"] == 16
    assert memory["eager"] is None


def test_whole_trainings(tmp_path):
    ours, loop = found("training", tmp_path)
    assert (ours["by"], loop["by"]) == ("triton", "eager")
    assert loop["us_per_step"] > 0
    assert "us_per_step" in ours or 'backend="triton"' in ours["failed"]


@pytest.mark.long
def test_sizes_and_tiles(monkeypatch, tmp_path):
    whole = device_sizes._pass
    monkeypatch.setattr(device_sizes, "_pass", lambda regime, backend, options: whole(regime, "eager", options))
    pieces = found("sizes", tmp_path)
    assert [(piece["model"], piece["features"]) for piece in pieces] == [("h1", 2), ("h1", 4), ("h2", 4)]
    assert all(row["triton"] > 0 for row in pieces[0]["ms"])
    row, *_ = found("tiles", tmp_path)
    assert row["failed"] == {}
    assert row["now"] in row["ms"]["5"]
    assert len(row["ms"]["5"]) > 10


def test_the_part_of_tests_tells_what_failed(monkeypatch, tmp_path):
    def broken(where):
        raise ValueError("no such thing")

    monkeypatch.setattr(device, "CHECKS", (broken, device_flows.analysis))
    monkeypatch.setattr(device, "suite", lambda options, seconds: {"exit_code": 0})
    first, second, suite = found("tests", tmp_path)
    assert first["failed"] == "ValueError: no such thing"
    assert second["value"] < 1e-12
    assert suite["exit_code"] == 0


@pytest.mark.long
def test_the_suite_has_its_time(tmp_path):
    chosen = options("tests", tmp_path)
    whole = device.suite(chosen, 900.0)
    assert whole["exit_code"] == 0
    assert " passed" in whole["said"]
    assert device.suite(chosen, 0.1)["exit_code"] is None


def test_the_part_of_images_measures_pace_and_memory(monkeypatch, tmp_path):
    made = lambda name, memory=None: hdnn.image_network((1,), (4,), memory=memory)  # noqa: E731
    monkeypatch.setattr(device, "made", made)
    pieces = found("images", tmp_path)
    assert [piece["what"] for piece in pieces] == ["pace"] * 8 + ["memory"] * 2
    assert all(piece["images_per_second"] > 0 for piece in pieces)


# Steps --------------------------------------------------------------------------------------------------------------


def test_steps_go_on_where_one_fails_or_takes_too_long(tmp_path):
    given = []

    def slow(seconds):
        given.append(seconds)
        device_steps.within(9.0, lambda: time.sleep(9.0))

    def broken(seconds):
        given.append(seconds)
        raise ValueError("no such thing")

    fine = Step({"what": "fine"}, lambda _: {"x": 1})
    chosen = options("flow", tmp_path)
    chosen.limit = 2.0
    device.report(chosen, [Step({}, broken), fine, Step({}, slow, 0.1), fine, Step({}, slow), fine])
    a, b, c, d, e, f = json.loads(chosen.out.read_text())["found"]
    assert a["failed"] == "ValueError: no such thing"
    assert "test_device_flows.py" in a["where"]
    assert c["failed"].startswith("TimeoutError: took longer than 0.0")
    assert e["failed"].startswith("TimeoutError: took longer than 1.")
    assert [piece.get("x") for piece in (b, d)] == [1, 1]
    assert f["failed"] == "TimeoutError: no time was left"
    assert given[0] == pytest.approx(0.33, rel=0.1)  # a sixth of the time; later steps have what earlier ones left
    assert given[1] > 0.4


def test_a_limit_within_another_ends_no_later_and_leaves_it_as_it_was():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"longer than 0\.2 s"):
        device_steps.within(0.2, lambda: [device_steps.within(0.01, lambda: 1), time.sleep(60.0)])
    with pytest.raises(TimeoutError, match=r"longer than 0\.[12]\d* s"):  # what was left of it
        device_steps.within(0.2, lambda: device_steps.within(5.0, lambda: time.sleep(60.0)))
    assert time.monotonic() - began >= 0.4


def by_number(number, options, turn):
    """A job of a process of its own."""
    if number == 0:
        raise ValueError("no such thing")
    if number == 1:
        raise SystemExit
    turn()
    return {"number": number}


@pytest.mark.long
def test_jobs_in_processes_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(device_steps, "PATIENCE", 600.0)  # they load PyTorch
    chosen = options("sizes", tmp_path, "--together")
    pieces = list(device_steps.done(device_steps.in_turns(by_number, range(3), chosen), 900.0))
    assert pieces[0]["failed"] == "ValueError: no such thing"
    assert pieces[2]["number"] == 2
    assert pieces[1]["failed"] == "RuntimeError: not ready in time, or broken"


@pytest.mark.parametrize("check", [check for check in device_flows.CHECKS if check not in ONLY_THERE])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_checks_hold_on_the_processor(check):
    torch.manual_seed(0)
    assert check("cpu") < 1e-5
    assert check in device.CHECKS
