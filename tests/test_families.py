"""The lists of `families.py` are complete."""

import ast
import inspect
import types
from pathlib import Path

import pytest
from torch import nn

import hdnn
from families import ACTIVATIONS, DISSIPATIONS, INTEGRATORS, INTERCONNECTIONS, PRESETS, STRUCTURES
from hdnn import activations, presets
from hdnn.activations import Activation
from hdnn.integrators import Integrator
from hdnn.interconnections import Interconnection
from hdnn.poisson import StateDependent
from hdnn.spaces import Space
from hdnn.structures import Structure


def j_of_state(features: int, layers: int) -> Interconnection:
    """Of its own kind, with tests of its own: it depends on the state."""
    return StateDependent(nn.Linear(features, features * (features - 1) // 2), features)


def members(base: type) -> set[type]:
    """The concrete classes of hdnn below a base."""
    below = {found for child in base.__subclasses__() for found in {child, *members(child)}}
    return {cls for cls in below if cls.__module__.startswith("hdnn.") and not inspect.isabstract(cls)}


@pytest.mark.parametrize(
    ("base", "listed"),
    [
        (Activation, list(ACTIVATIONS.values())),
        (Structure, [make(4) for make in STRUCTURES.values()]),
        (Interconnection, [make(4, 2) for make in (*INTERCONNECTIONS.values(), *DISSIPATIONS.values(), j_of_state)]),
        (Integrator, list(INTEGRATORS.values())),
    ],
)
def test_every_class_is_listed(base: type, listed: list[object]) -> None:
    assert {type(member) for member in listed} == members(base)


def test_every_activation_instance_is_listed() -> None:
    instances = [value for value in vars(activations).values() if isinstance(value, Activation)]
    assert all(instance in ACTIVATIONS.values() for instance in instances)


def test_every_preset_is_listed() -> None:
    own = {
        name: value
        for name, value in vars(presets).items()
        if isinstance(value, types.FunctionType) and value.__module__ == presets.__name__ and not name.startswith("_")
    }
    assert own == PRESETS


# Where the kernels' own names of factors are looked up, and nothing else.
KERNELS = ("flow/plans.py", "training/fused.py")


def test_factors_are_asked_for_their_facts_and_not_for_their_class() -> None:
    """No `isinstance` or `type` of a factor outside the file that it lives in: what another knows, it asks."""
    bases = (Activation, Structure, Interconnection, Integrator, Space)
    home = {cls.__name__: cls.__module__.split(".")[1] for base in bases for cls in members(base)}
    source, asked = Path(hdnn.__file__).parent, []
    for path in source.rglob("*.py"):
        relative = path.relative_to(source)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"
            compared = isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("type(")
            if (called or compared) and str(relative) not in KERNELS:
                names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & home.keys()
                asked += [f"{relative}: {n}" for n in names if home[n] != relative.parts[0].removesuffix(".py")]
    assert asked == []
