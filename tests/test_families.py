"""The lists of `families.py` are complete."""

import inspect
import types

import pytest

from families import ACTIVATIONS, INTEGRATORS, INTERCONNECTIONS, PRESETS, STRUCTURES
from hdnn import activations, presets
from hdnn.activations import Activation
from hdnn.integrators import Integrator
from hdnn.interconnections import Interconnection
from hdnn.structures import Structure


def members(base: type) -> set[type]:
    """The concrete classes of hdnn below a base."""
    below = {found for child in base.__subclasses__() for found in {child, *members(child)}}
    return {cls for cls in below if cls.__module__.startswith("hdnn.") and not inspect.isabstract(cls)}


@pytest.mark.parametrize(
    ("base", "listed"),
    [
        (Activation, list(ACTIVATIONS.values())),
        (Structure, [make(4) for make in STRUCTURES.values()]),
        (Interconnection, [make(4, 2) for make in INTERCONNECTIONS.values()]),
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
