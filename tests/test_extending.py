"""What CONTRIBUTING says of adding a factor, done from outside the package: a structure, an integrator, a space, an
energy, a data source. (A backend: `kernels/test_toy_backend.py`.)

Each is as short as it can be and then has what the members of its family have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import hdnn
from families import F64, random, skew
from hdnn import jobs
from hdnn.data import Dataset, Numeric, TableEncoder, TargetEncoder
from hdnn.flow import Flow
from hdnn.jobs import DataSource


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    """What other tests have compiled counts towards the limit of recompilations."""
    torch.compiler.reset()


class Circulant(hdnn.Structure):
    """K[i, j] = w[j - i]: every row is the one above, moved on."""

    def free_shape(self, features, space):
        return space.weights(1, features)[1:]

    def build(self, free, index):
        return torch.stack([free.roll(i, 1) for i in range(free.shape[1])], 1)


@dataclass(frozen=True)
class Midpoint(hdnn.Integrator):
    """y⁺ = y + h f(y + h/2 f(y)), the explicit midpoint rule."""

    order: ClassVar[int] = 2

    def step(self, field, y, h):
        return y + h * field(y + (h / 2) * field(y))

    def inverse(self, field, y, h):
        raise ValueError("The explicit midpoint rule has no explicit inverse. Use `StormerVerlet`.")


@dataclass(frozen=True)
class Ring(hdnn.Space):
    """States (B, n, L) on a closed line: K reaches the position itself and the one after it."""

    axis: ClassVar[int] = -2
    rank: ClassVar[int] = 2
    taps: ClassVar[tuple[int, ...]] = (2,)

    def map(self, K, y, b=None):
        z = K[..., 0] @ y + K[..., 1] @ y.roll(-1, -1)
        return z if b is None else z + b.unsqueeze(-1)

    def adjoint(self, K, z):
        return K[..., 0].mT @ z + (K[..., 1].mT @ z).roll(1, -1)

    def norm(self, K, size=None):
        return torch.linalg.matrix_norm(K[..., 0], 2) + torch.linalg.matrix_norm(K[..., 1], 2)


class Hyperbola(hdnn.Activation):
    """H = Σ √(1 + u²), so σ(u) = u / √(1 + u²)."""

    slopes = (0.0, 1.0)

    def potential(self, u):
        return (1 + u.square()).sqrt()

    def value(self, u):
        return u / (1 + u.square()).sqrt()

    def slope(self, u):
        return (1 + u.square()) ** -1.5


def flow(**changed: object) -> Flow:
    factors: dict[str, object] = {
        "structure": hdnn.Dense(),
        "interconnection": hdnn.Fixed(skew(4)),
        "integrator": hdnn.ForwardEuler(),
        "step": 0.1,
        "dtype": F64,
    }
    return Flow(4, 6, **(factors | changed))  # type: ignore[arg-type]


def added() -> Iterator[tuple[str, Flow, tuple[int, ...]]]:
    """Name, a flow with the new factor, and the sizes of a state after the features."""
    yield "structure", flow(structure=Circulant()), ()
    yield "structure on images", flow(structure=Circulant(), kernel_size=3), (3, 4)
    yield "integrator", flow(integrator=Midpoint()), ()
    yield "space", flow(space=Ring()), (5,)
    yield (
        "space, halves",
        flow(
            space=Ring(),
            structure=hdnn.BlockDiagonal(),
            integrator=hdnn.StormerVerlet(),
            interconnection="canonical",
        ),
        (5,),
    )
    yield "energy", flow(activation=Hyperbola()), ()


each = pytest.mark.parametrize(
    ("made", "size"),
    [pytest.param(f, s, id=name, marks=pytest.mark.long if "halves" in name else ()) for name, f, s in added()],
)


@each
def test_it_has_what_its_family_has(made: Flow, size: tuple[int, ...]) -> None:
    y = random(3, 4, *size)
    out = made(y)
    torch.testing.assert_close(made[2:](made[:2](y)), out, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made.trajectory(y)[-1], out, rtol=1e-12, atol=1e-12)
    assert made.refine(2).layers == 12
    K, b = made.K, made.bias
    expected = [made.step / 2 * x.diff(dim=0).square().sum() for x in (K, b)]
    torch.testing.assert_close(list(made.smoothness()), expected)
    M = hdnn.analysis.sensitivities(made, y)[0]
    one = torch.stack([torch.func.jacrev(made)(x[None]).reshape(x.numel(), x.numel()) for x in y])
    torch.testing.assert_close(M, one, rtol=1e-9, atol=1e-11)
    for memory in ("recompute", *(["reverse"] if made.integrator.reversible else [])):
        spare = Flow.__getitem__(made, slice(None))
        spare.memory = memory
        found = torch.autograd.grad(spare(y).square().sum(), list(spare.parameters()))
        expected = torch.autograd.grad(made(y).square().sum(), list(made.parameters()))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    if made.integrator.reversible:
        torch.testing.assert_close(made.inverse(out), y, rtol=1e-11, atol=1e-11)
    compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(y), out)


@each
def test_the_gradient_is_that_of_the_energy(made: Flow, size: tuple[int, ...]) -> None:
    y = random(3, 4, *size).requires_grad_()
    (found,) = torch.autograd.grad(made.energy(y, 2).sum(), y)
    torch.testing.assert_close(found, made.hamiltonian.gradient(made.K[2], made.bias[2], y), rtol=1e-10, atol=1e-12)


def test_promises_hold_for_what_was_added() -> None:
    y = random(3, 4)
    assert hdnn.analysis.lower_bound(flow(activation=Hyperbola())) == 1.0
    assert hdnn.analysis.lower_bound(flow(structure=Circulant())) == 1.0
    bound = hdnn.analysis.log_upper_bound(flow(activation=Hyperbola()))
    assert bool(torch.isfinite(bound))
    with pytest.raises(ValueError, match="`Midpoint` does not guarantee"):
        hdnn.analysis.lower_bound(flow(integrator=Midpoint()))
    with pytest.raises(ValueError, match="No upper bound is known for `Midpoint"):
        hdnn.analysis.log_upper_bound(flow(integrator=Midpoint()))
    ring = flow(
        space=Ring(), structure=hdnn.BlockDiagonal(), integrator=hdnn.StormerVerlet(), interconnection="canonical"
    )
    assert ring.preserves_structure
    x = random(1, 4, 5)
    M = hdnn.analysis.sensitivities(ring, x)[0, 0]
    J = torch.kron(ring.J, torch.eye(5, dtype=F64))
    torch.testing.assert_close(M @ J @ M.mT, J, rtol=0, atol=1e-12)
    assert torch.linalg.matrix_norm(M, 2).log() <= hdnn.analysis.log_upper_bound(ring)
    assert y.shape == (3, 4)


def test_a_circulant_is_skew_only_where_it_says_so() -> None:
    with pytest.raises(ValueError, match=r"`Inverse` sets J = K⁻ᵀ, skew only if K is"):
        flow(structure=Circulant(), interconnection=hdnn.Inverse())


def test_padding_is_what_a_ring_has_not() -> None:
    K, y = random(3, 4, 2), random(2, 4, 5)
    padded = functional.conv1d(functional.pad(y, (0, 1), mode="circular"), K)
    torch.testing.assert_close(Ring().map(K, y), padded)


def test_order_of_the_midpoint_rule() -> None:
    """Measured, as for the integrators of hdnn."""
    y, exact = random(3, 4), flow(integrator=hdnn.RungeKutta4(), shared=True)
    errors: list[Tensor] = []
    truth = exact.refine(64)(y)
    for factor in (4, 8):
        rough = flow(integrator=Midpoint(), shared=True)
        rough.load_state_dict(exact.state_dict())
        errors.append((rough.refine(factor)(y) - truth).norm())
    assert abs(float((errors[0] / errors[1]).detach().log2()) - Midpoint.order) < 0.1


class Rings(DataSource):
    """Two rings, one within the other."""

    def load(self, progress=None):
        rng = np.random.default_rng(0)
        labels = np.arange(200) % 2
        angle = rng.uniform(0, 2 * np.pi, 200)
        x = ((1.0 + labels) * np.stack((np.cos(angle), np.sin(angle)))).T.astype(np.float32)
        encoder = TableEncoder((Numeric("east", 0.0, 1.0, 0.0), Numeric("north", 0.0, 1.0, 0.0)))
        target = TargetEncoder(("ring",), classes=("inner", "outer"))
        return Dataset("rings", "classification", x[:150], labels[:150], x[150:], labels[150:], encoder, target)


def test_a_data_source_of_ones_own_is_trained_on_resumed_and_evaluated(tmp_path: Path) -> None:
    done = jobs.train(Rings(), jobs.Choices(layers=4, epochs=30, learning_rate=0.05), tmp_path / "run", seed=1)
    assert done.metrics["test_accuracy"] > 0.9
    with pytest.raises(ValueError, match=r"a source that its user wrote in Python. Give it again: `source=Rings"):
        jobs.evaluate(tmp_path / "run")
    again = jobs.evaluate(tmp_path / "run", source=Rings())
    assert again["accuracy"] == done.metrics["test_accuracy"]
    (tmp_path / "new.csv").write_text("east,north\n0.7,0.7\n2,0\n", encoding="utf-8")
    assert "outer" in str(jobs.predict(tmp_path / "run", tmp_path / "new.csv"))
    assert jobs.resume(tmp_path / "run", source=Rings()).metrics == done.metrics
