"""What the Triton backend refuses, what "auto" leaves to others, and what it would launch: all of it without Triton."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import hdnn
from families import F64, PRESETS, Factors, preset, random, state
from hdnn.flow import Flow
from hdnn.integrators import RungeKutta4, StormerVerlet
from hdnn.interconnections import Fixed, canonical
from hdnn.kernels import choice, launches, programs, triton
from hdnn.kernels.backend import Layers, Wants
from hdnn.structures import Dense, Masked
from native_cases import DAMPED, F32
from triton_cases import launched

TRITON = triton.Triton()
SIGNATURES = {
    node.name: [argument.arg for argument in node.args.args]
    for node in ast.parse(Path(str(programs.__file__)).read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef)
}


class OnCuda:
    """As much of a CUDA tensor as a backend asks for."""

    is_cpu, is_cuda, dtype, device = False, True, F32, torch.device("cuda", 0)

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def numel(self) -> int:
        return torch.Size(self.shape).numel()


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton is installed, and compiles."""
    monkeypatch.setattr(triton, "installed", True)
    monkeypatch.setattr(triton, "interpreted", False)


@pytest.mark.long
def test_importing_hdnn_loads_no_program_of_triton() -> None:
    """Triton itself is loaded by PyTorch's own modules where it is installed."""
    code = "import sys, hdnn, hdnn.info; hdnn.h2(4, 2, step=0.1); assert 'hdnn.kernels.programs' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_it_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "installed", False)
    with pytest.raises(ValueError, match=r"needs Triton, which this install lacks.*hdnn\[triton\]"):
        preset("h2", backend="triton")
    assert TRITON.describe().startswith("not available: Triton is not installed")
    assert TRITON.why_not(preset("h2").plan, OnCuda(3, 4), OnCuda(1), Wants())  # type: ignore[arg-type]


def test_it_says_what_is_missing(there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TRITON.describe() == "not available: PyTorch sees no CUDA device"
    assert hdnn.info.info()["backends"]["triton"] == TRITON.describe()


def test_processor_tensors_are_refused(there: None) -> None:
    flow = preset("h2", backend="triton")
    with pytest.raises(ValueError, match=r'"triton" takes CUDA tensors.*got a torch.float64 state on cpu'):
        flow(random(3, 4))


class Own(type(hdnn.tanh)):  # type: ignore[misc]
    """An activation that programs do not know."""

    def value(self, u: torch.Tensor) -> torch.Tensor:
        return u.tanh()


class Moves(StormerVerlet):
    """More moves than a launch has room for."""

    fractions = (1 / 16, *[1 / 8] * 15, 1 / 16)


SCATTERED = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]]).repeat(2, 1)  # units of p and of q by turns

# As the documentation lists them.
OTHERS: dict[str, Callable[[], Flow]] = {
    "stages": lambda: preset("h1", integrator=RungeKutta4()),
    "implicit steps": lambda: preset("h1", integrator=hdnn.ImplicitMidpoint()),
    "moves": lambda: preset("h2", integrator=Moves("p")),
    "convolutions": lambda: preset("h2", kernel_size=3),
    "signals": lambda: preset("h2", space=hdnn.Signals(1)),
    "graphs": lambda: preset("h2", space=hdnn.Graph()),
    "energies": lambda: preset("h1", energy=hdnn.Quadratic(torch.ones(4, dtype=F64))),
    "unit weights": lambda: preset("h1", unit_weights=2.0),
    "ports": lambda: preset("h1", ports=2),
    "J of the state": lambda: preset("h1", interconnection=hdnn.StateDependent(torch.nn.Linear(4, 16), 4)),
    "activations": lambda: preset("h1", activation=Own()),
    "scattered units": lambda: Flow(
        4,
        3,
        step=0.1,
        structure=Masked(Dense(), SCATTERED),
        interconnection=Fixed(canonical(4)),
        integrator=StormerVerlet("p"),
    ),
    "inputs of images": lambda: preset("h2", kernel_size=1, inputs=2),
    "learned damping with inputs": lambda: preset("h2", inputs=2, integrator=DAMPED["SymplecticEuler_p"]),
    "features": lambda: preset("h2", 130),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_flows_are_refused(there: None, kind: str) -> None:
    flow = OTHERS[kind]()
    with pytest.raises(ValueError, match=r'backend="triton" runs ForwardEuler and splittings.*this flow is another'):
        flow.backend = "triton"


def test_wishes_are_refused(there: None) -> None:
    with pytest.raises(ValueError, match='memory="store" keeps every layer'):
        preset("h2", backend="triton", memory="store")
    plan, y = preset("h2").plan, OnCuda(5, 4)
    weight = OnCuda(3, 2, 2)
    assert TRITON.why_not(plan, y, weight, Wants()) == ""  # type: ignore[arg-type]
    for wants in (Wants(forward_mode=True), Wants(transforms=True), Wants(program=True)):
        assert "no forward-mode" in TRITON.why_not(plan, y, weight, wants)  # type: ignore[arg-type]
    for dtype in (F64, torch.bfloat16):
        y.dtype = dtype
        assert f"got a {dtype} state" in TRITON.why_not(plan, y, weight, Wants())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "n", "layers", "batch", "taken"),
    [("h2", 4, 4, 125, True), ("h2", 4, 3, 125, False), ("h2", 16, 64, 1 << 20, True), ("h1", 8, 64, 1 << 20, True),
     ("h1", 16, 64, 1 << 16, True), ("h1", 16, 64, 1 << 17, False), ("h2", 32, 64, 1 << 16, True),
     ("h1", 32, 64, 1 << 12, True), ("h2", 64, 64, 1 << 12, True), ("h2", 64, 256, 1 << 13, False),
     ("h1", 64, 16, 125, False), ("h1", 128, 16, 16, False)],
)  # fmt: skip
def test_auto_takes_it_where_it_was_faster(
    there: None, name: str, n: int, layers: int, batch: int, taken: bool
) -> None:
    """As an H200 measured; who names it gets it."""
    plan = preset(name, n, layers).plan
    y, weight = OnCuda(batch, n), OnCuda(1)
    found = choice.chosen("auto", plan, y, weight, False)  # type: ignore[arg-type]
    assert found.name == ("triton" if taken else "eager")
    y.dtype = weight.dtype = F64
    found = choice.chosen("auto", plan, y, weight, False)  # type: ignore[arg-type]
    assert found.name == ("triton" if taken and n <= (16 if name == "h2" else 8) else "eager")
    assert choice.chosen("triton", plan, y, weight, False).name == "triton"  # type: ignore[arg-type]


def test_auto_never_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "installed", True)
    monkeypatch.setattr(triton, "interpreted", True)
    flow = preset("h2", layers=8)
    assert choice.chosen("auto", flow.plan, random(3, 4), random(1), False).name != "triton"


KINDS = {
    **{name: lambda name=name: preset(name) for name in PRESETS},
    "matrix": lambda: Factors("BlockDiagonal", "block", "Yoshida4_p").flow(4, 3),
    "per layer": lambda: Factors("Dense_wide", "per_layer_skew", "ForwardEuler").flow(4, 3),
    "damped": lambda: preset("h2", integrator=DAMPED["SymplecticEuler_p"]),
    "shared": lambda: preset("h1", shared=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_launches_give_programs_their_arguments(kind: str) -> None:
    """By name, every one and no other but the options of a launch."""
    names = []
    for name, given in launched(KINDS[kind](), 5):
        assert given.keys() - {"num_warps"} == set(SIGNATURES[name])
        names.append(name)
    assert len(names) == 3


def test_sizes_of_no_program_are_compiled_in() -> None:
    """What differs from call to call is either a constant in capitals, a tensor, a float or listed as a size."""
    listed = set(programs.kernel.keywords["do_not_specialize"])
    for kind in KINDS:
        for _, given in launched(KINDS[kind](), 5):
            integers = {name for name, x in given.items() if type(x) is int and not name.isupper()}
            assert integers - {"num_warps"} <= listed


@pytest.mark.parametrize(("batch", "layers"), [(1 << 10, 4), (1 << 20, 4), (1 << 14, 1000)])
def test_what_a_backward_launch_keeps_is_bounded(batch: int, layers: int) -> None:
    flow = hdnn.h2(128, layers, step=0.1, device="meta")
    given = launched(flow, 0, y=torch.empty(batch, 128, device="meta"))[1][1]
    assert 0 < 4 * given["scratch"].numel() <= launches.SCRATCH


def test_steps_come_in_parts_that_are_the_step() -> None:
    for step in (0.1, 1 / 3, 1e-9, 7e5, 0.0, -0.3):
        assert sum(launches._parts("h", step).values()) == pytest.approx(step, rel=1e-16, abs=0)


def test_parameters_of_other_shapes_are_refused() -> None:
    flow = preset("h2", dtype=F32)
    y = state(flow, 3).to(F32)
    K, b = flow.K.detach(), flow.bias.detach()
    for wrong in (Layers(K[1:], b, None), Layers(K, b[1:], None), Layers(K, b, K)):
        with pytest.raises(ValueError, match="do not fit a flow"):
            launches.forward(flow.plan, y, wrong)
    with pytest.raises(ValueError, match="all be of one kind"):
        launches.forward(flow.plan, y, Layers(K.to("meta"), b, None))
