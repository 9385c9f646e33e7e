"""Whose threads share a run: one OpenMP runtime in a process, that of PyTorch; without it, threads of our own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from families import preset, state
from hdnn.kernels import calls, native, threads
from native_cases import threads as with_threads

pytestmark = pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ALONE = """
import torch, hdnn
torch.set_num_threads(2)
flow = hdnn.h1(8, 16, step=0.1, backend="native")
flow(torch.randn(4000, 8)).sum().backward()
(torch.randn(2000, 2000) @ torch.randn(2000, 2000)).exp().sum()
maps = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
print(*sorted(path for path in maps if any(name in path for name in ("libgomp", "libomp", "libiomp"))), sep="\\n")
"""


@pytest.mark.long
@linux
def test_a_process_has_one_openmp() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = done.stdout.split()
    assert Path(path).parent == Path(torch.__file__).parent / "lib"


@linux
def test_the_extension_names_no_openmp() -> None:
    text = Path(calls.extension.__file__).read_bytes()
    assert b"GOMP" not in text
    assert b"__kmpc" not in text
    assert b"libgomp" not in text


@linux
def test_pytorch_has_threads_to_share() -> None:
    assert threads.entry() != 0
    assert "PyTorch's OpenMP" in native.Native().describe()


@pytest.fixture
def alone() -> Iterator[None]:
    calls.extension.share_threads(0)
    yield
    calls.extension.share_threads(threads.entry())


@pytest.mark.parametrize("name", ["h1", "h2", "ms1"])
def test_threads_of_its_own_give_the_same_bits(name: str, alone: None) -> None:
    flow = preset(name, 8, 12, step=0.1, backend="native")
    y = state(flow, 3000).requires_grad_()
    results = []
    for borrowed, count in ((0, 1), (0, 2), (threads.entry(), 2)):
        calls.extension.share_threads(borrowed)
        with with_threads(count):
            out = flow(y)
            results.append((out, *torch.autograd.grad(out.square().sum(), [y, *flow.parameters()])))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


NONE = """
import sys
from hdnn.kernels import threads
threads.entry = lambda: 0  # as where PyTorch was built without OpenMP
from hdnn.info import info
print(info()["backends"]["native"])
"""


@pytest.mark.long
def test_info_says_that_threads_are_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", NONE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("threads of its own)")
