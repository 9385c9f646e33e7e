"""What compilers for absent devices say of the programs: registers, stack, shared memory, and no tensor cores."""

from __future__ import annotations

import pytest
import torch

import hdnn
from hdnn.kernels import triton
from triton_cases import launched

pytestmark = [
    pytest.mark.skipif(not triton.installed or triton.interpreted, reason="needs Triton's compiler: make test-triton"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SHARED = 48 << 10  # bytes that any program may have
FAST = ((4, 90), (32, 80))
CASES = [
    pytest.param(make, n, dtype, sm, marks=() if make is hdnn.h2 and (n, sm) in FAST else pytest.mark.slow)
    for make in (hdnn.h1, hdnn.h2)
    for n in (2, 4, 8, 16, 32, 64, 128)
    for dtype in (torch.float32, torch.float64)
    for sm in (80, 90)
]


@pytest.mark.parametrize(("make", "features", "dtype", "capability"), CASES)
def test_programs_fit(make, features, dtype, capability):
    """Little of float32 is spilled, most by tiles of 64 features, yet the fastest; float64, twice as wide, may more."""
    from triton_resources import resources

    for launch in launched(make(features, 8, step=0.1), 4096, dtype)[:2]:
        found = resources(launch, capability)
        assert found["reg"] <= 255
        assert found["stack"] <= (192 if dtype is torch.float32 else 1024), found["stack"]
        assert found["shared"] <= SHARED
        assert "mma" not in found["ptx"]
        assert ("fma.rn.f32" if dtype is torch.float32 else "fma.rn.f64") in found["ptx"]


@pytest.mark.parametrize("capability", [90, pytest.param(80, marks=pytest.mark.slow)])
def test_the_sums_of_programs_compile(capability):
    from triton_resources import resources

    for make in (hdnn.h1, hdnn.h2):
        found = resources(launched(make(4, 8, step=0.1), 4096)[2], capability)
        assert found["stack"] == 0


def test_launches_pass_numbers_as_they_are_compiled_for():
    """Floats in three parts of float32, sizes that are never constants: as launches on a device would type them."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    from hdnn.kernels import programs

    name, given = launched(hdnn.h2(4, 8, step=0.1, dtype=torch.float64), 125, torch.float64)[0]
    program = getattr(programs, name)
    backend = make_backend(GPUTarget("cuda", 90, 32))
    try:
        from triton.runtime.jit import create_function_from_signature
    except ImportError:
        pytest.skip("this Triton binds arguments in another way")
    binder = create_function_from_signature(program.signature, program.params, backend)
    _, specialization, _ = binder(**given)
    types = dict(zip(program.arg_names, (kind for kind, _ in specialization), strict=True))
    assert {types[key] for key in ("h0", "s2", "d1")} == {"fp32"}
    assert {types[key] for key in ("rows", "programs", "b_row", "y_feature")} == {"i32"}
    assert {types[key] for key in ("y", "out", "weight", "rate")} == {"*fp64"}
    assert types["F"] == types["FRACTIONS"] == "constexpr"
