"""The build: no symbol of one instruction set may reach another's code, and without a compiler all runs eagerly."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hdnn.kernels import calls, native

SOURCES = Path(__file__).parents[2] / "csrc"
# What `CMakeLists.txt` passes.
SETS = {
    "baseline": (16, []),
    "avx2": (32, ["-mavx2", "-mfma"]),
    "avx512": (64, ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"]),
}

needs_tools = pytest.mark.skipif(
    not (shutil.which("g++") and shutil.which("nm")) or platform.machine() not in ("x86_64", "AMD64"),
    reason="needs g++ and nm on x86-64",
)


# The files that are compiled for each instruction set, and the functions of the C library that they may call.
FILES: dict[str, set[str]] = {"kernel": set(), "graph": set(), "step": {"log", "logf", "sqrt", "sqrtf"}}


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", SETS)
def test_kernel_objects_share_no_symbol_that_a_linker_may_merge(name: str, file: str, tmp_path: Path) -> None:
    """A weak std:: symbol compiled for AVX-512 could replace the one that an old processor runs."""
    size, flags = SETS[name]
    made = tmp_path / "kernel.o"
    # -O0 keeps every function that an optimiser might inline away today and not tomorrow.
    table = f"{file}_{name}"
    defines = [f"-DHDNN_VECTOR_BYTES={size}", f"-DHDNN_{file.upper()}={table}", f'-DHDNN_KERNEL_NAME="{name}"']
    for level in ("-O0", "-O2"):
        source = SOURCES / f"{file}.cpp"
        command = ["g++", "-std=gnu++17", level, "-fPIC", *flags, *defines, "-c", source, "-o", made]
        subprocess.run(command, check=True, capture_output=True)
        listed = subprocess.run(["nm", "-C", made], check=True, capture_output=True, text=True).stdout.splitlines()
        kinds = {line[19:]: line[17] for line in listed if line[17:18].strip()}
        outside = {symbol for symbol, kind in kinds.items() if kind not in "tdrbnU"}
        assert outside == {f"hdnn::{table}"}
        wanted = {symbol for symbol, kind in kinds.items() if kind == "U"}
        libc = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
        assert wanted <= libc | FILES[file], wanted


@pytest.mark.skipif(not native.available(), reason="this install lacks the compiled extension")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other machines have one instruction set")
def test_the_extension_holds_every_instruction_set() -> None:
    text = Path(calls.extension.__file__).read_bytes()
    assert all(name.encode() in text for name in SETS)
    assert calls.extension.instruction_set() in SETS


WITHOUT = """
import sys
sys.modules["hdnn.kernels._native"] = None  # importing it raises ImportError
import torch, hdnn
from hdnn.kernels import calls, native
assert not native.available()
assert native.Native().describe().startswith("not available: "), native.Native().describe()
y = torch.randn(5, 4, requires_grad=True)
for backend in ("auto", "eager"):
    flow = hdnn.h2(features=4, layers=3, step=0.1, backend=backend)
    flow(y).sum().backward()
    assert flow.weight.grad.isfinite().all() and y.grad.isfinite().all()
try:
    hdnn.h2(features=4, layers=3, step=0.1, backend="native")
except ValueError as error:
    print(error)
from hdnn.info import info
print(info()["backends"]["native"])
"""


@pytest.mark.long
def test_without_the_extension_everything_runs_eagerly() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, told = done.stdout.splitlines()
    assert said.startswith('backend="native" needs the compiled extension, which this install lacks. Reinstall with')
    assert 'backend="eager"' in said
    assert told.startswith("not available: ")
