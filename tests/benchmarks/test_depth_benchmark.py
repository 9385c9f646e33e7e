"""Memory is counted to the megabyte, and verdicts follow from the numbers."""

import argparse
import json
import sys

import pytest
import torch

import depth
import machine
import memory
from hdnn import h1

MIB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Wasteful(torch.nn.Module):
    """Twice its input, by way of a large tensor that is gone at the end."""

    def forward(self, y):
        return 2 * y + torch.ones(size := 64 * MIB // 4).sum() * 0 / size


@linux
def test_memory_that_comes_and_goes_is_counted():
    y = torch.ones(1000, 4, requires_grad=True)
    found = memory.extra(Wasteful(), y, torch.ones(1000, 4))
    assert found["output_and_gradients"] == 2 * 1000 * 4 * 4
    assert 63 <= found["extra"] / MIB < 70


@linux
def test_output_and_gradients_are_not_counted():
    size = 64 * MIB // 4 // 4
    y = torch.ones(size, 4, requires_grad=True)
    found = memory.extra(torch.nn.Identity(), y, torch.ones(size, 4))
    assert found["extra"] / MIB < 8


@linux
def test_one_point(monkeypatch, capsys):
    line = "memory.py h1 --features 4 --layers 8 --batch 100 --backend eager --memory store"
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.setattr(memory, "_PATIENCE", 0.01)
    memory.main()
    found = json.loads(capsys.readouterr().out)
    y, parameters = 4 * 100, sum(p.numel() for p in h1(4, 8, step=0.1).parameters())
    assert found["output_and_gradients"] == 4 * (y + y + parameters)
    assert found["seconds"] > 0


def test_images_are_convolved():
    chosen = argparse.Namespace(model="h2", features=4, kernel_size=3, side=6, backend="eager", memory=None)
    flow, y, cotangent = memory.problem(chosen, layers=2, batch=3)
    assert flow.kernel_size == 3
    assert y.shape == cotangent.shape == (3, 4, 6, 6)
    assert memory.run(flow, y, cotangent).shape == y.shape
    assert y.grad is not None


def series(modes=("native",), depths=(100, 10_000)):
    return depth.Series("a flow", "h1", depth.VECTORS, depths, modes, ("native", 100, 10_000))


@pytest.mark.parametrize(("deep", "verdict"), [(28 * MIB, "**passed**"), (29 * MIB, "**FAILED**")])
def test_the_target_is_checked(deep, verdict):
    found = {"native": {100: {"extra": 10 * MIB}, 10_000: {"extra": deep}}}
    assert verdict in depth.verdict(series(), found)


def test_a_target_that_was_not_measured_says_so():
    assert "not measured" in depth.verdict(series(), {"native": {100: {"extra": 1}, 10_000: {"reason": "too much"}}})


def test_points_that_would_not_fit_are_skipped_and_say_so(monkeypatch):
    asked = []

    def child(script, options, cores):
        asked.append(options[options.index("--layers") + 1])
        return {"extra": 2**30, "seconds": 0.1}

    monkeypatch.setattr(machine, "child", child)
    monkeypatch.setattr(depth, "free", lambda: 4 * 2**30)
    found = depth.measure(series(("store",), (10, 20, 1000)), cores=1)
    assert asked == [10, 20]
    assert found["store"][1000] == {"reason": "about 50 GiB needed, 4 GiB free"}


def test_the_report_holds_every_mode_and_depth():
    each = series(("native", "store"), (100, 10_000))
    found = {
        "native": {100: {"extra": MIB, "seconds": 0.001}, 10_000: {"extra": MIB, "seconds": 0.1}},
        "store": {100: {"extra": 9 * MIB, "seconds": 0.01}, 10_000: {"reason": "about 50 GiB needed, 4 GiB free"}},
    }
    text = "\n".join(depth.report(machine.facts(), [(each, found)]))
    assert "| native | 1.0 / 1 | 1.0 / 100 |" in text
    assert "| eager, memory='store' | 9.0 / 10 | about 50 GiB needed, 4 GiB free |" in text


def test_modes_are_those_of_the_library():
    assert depth.MODES["h2"] == ("native", "store", "recompute", "reverse")
