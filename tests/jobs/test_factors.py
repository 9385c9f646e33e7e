"""What reports call the factors of a flow: names without Python."""

import re

import pytest

from families import INTEGRATORS, INTERCONNECTIONS, STRUCTURES
from hdnn.integrators import INTEGRATORS as NAMED
from hdnn.jobs.factors import in_words

FACTORS = {
    **{name: make(4) for name, make in STRUCTURES.items() if not name.startswith("Masked")},
    **{name: INTERCONNECTIONS[name](4, 2) for name in ("canonical", "upper_ones", "block", "Inverse")},
    **INTEGRATORS,
}


@pytest.mark.parametrize("name", FACTORS)
def test_no_call_and_no_default_of_python_is_in_them(name):
    assert not re.search(r"[()=]|None|True|False", in_words(FACTORS[name]))


@pytest.mark.parametrize("name", NAMED)
def test_an_integrator_is_called_what_the_command_line_calls_it(name):
    assert in_words(NAMED[name]).split(",")[0] == name


def test_different_factors_are_called_differently():
    for family in (STRUCTURES, INTEGRATORS):
        told = [in_words(each(4) if callable(each) else each) for each in family.values()]
        assert len(set(told)) == len(told)
