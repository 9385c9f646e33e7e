"""How a fused run ends early: on Ctrl-C, without memory, and with more threads than there are."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import torch

from families import preset, state
from hdnn.kernels import native
from native_cases import threads

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals and limits of unix"),
]

LONG = """
import sys, time, torch, hdnn
from hdnn.kernels import calls
from hdnn.kernels.backend import Layers
torch.set_num_threads(int(sys.argv[2]))
flow = hdnn.h1(32, 10_000, horizon=1.0, backend="native").requires_grad_(False)
few, y = torch.randn(3, 32), torch.randn(60_000, 32)
expected, layers = flow(few), Layers(flow.weight, flow.bias, None)
begun = time.process_time()
flow(y[:300])
whole = 200 * (time.process_time() - begun)
begun = time.process_time()
print("now", flush=True)
try:
    flow(y) if sys.argv[1] == "forward" else calls.backward(flow.plan, y, y, layers)
except KeyboardInterrupt:
    print((time.process_time() - begun) / whole, flush=True)
    assert torch.equal(flow(few), expected)
"""
CASES = [("forward", 2), ("forward", 1), ("backward", 1), ("backward", 2)]


@pytest.mark.parametrize(
    ("which", "count"), [pytest.param(*case, marks=pytest.mark.slow if case != CASES[0] else ()) for case in CASES]
)
def test_ctrl_c_ends_a_call_early(which: str, count: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", LONG, which, str(count)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "now\n"
    time.sleep(0.3)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    assert float(child.stdout.readline()) < 0.1  # of the processor time that all rows forward would have taken
    child.communicate(timeout=60)
    assert child.returncode == 0


def test_a_handler_that_does_not_raise_stops_nothing() -> None:
    flow = preset("h1", 4, 2000, step=0.001, backend="native")
    y = state(flow, 3000)
    expected, seen = flow(y), []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        out = flow(y)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert torch.equal(out, expected)


STARVED = """
import resource, torch, hdnn
from hdnn.kernels import calls
from hdnn.kernels.backend import Layers
torch.set_num_threads(2)
flow = hdnn.h1(1024, 10_000, horizon=1.0, shared=True, backend="native")
y = torch.randn(40, 1024, requires_grad=True)
hdnn.h1(1024, 2, horizon=1.0, backend="native")(y).sum().backward()  # loads what is loaded late
K, b, y = flow.K.detach(), flow.bias.detach(), y.detach()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**22, size + 2**22))
try:
    calls.backward(flow.plan, y, y, Layers(K, b, None), weights_too=False)
except MemoryError as error:
    print(error)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the limits of Linux")
def test_without_memory_the_process_lives() -> None:
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No memory was left for the fused kernels")


def test_more_threads_than_processors() -> None:
    flow = preset("h2", 4, 8, backend="native")
    y = state(flow, 5000)
    expected = flow(y)
    with threads(1024):
        assert torch.equal(flow(y), expected)
        flow(y.requires_grad_()).sum().backward()
