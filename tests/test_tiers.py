"""The fast tests take each value of each parameter, CI all cases."""

import itertools
import re
from pathlib import Path

import pytest

from families import COMBINATIONS
from tiers import repeated

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("sizes", [(1,), (5,), (3, 1), (4, 3), (2, 3, 5), (2, 2, 2, 2)], ids=str)
def test_every_value_once_in_as_few_cases_as_that_takes(sizes):
    cases = [dict(zip("abcd", values, strict=False)) for values in itertools.product(*map(range, sizes))]
    left_out = repeated(cases)
    kept = [case for number, case in enumerate(cases) if number not in left_out]
    assert len(kept) == max(sizes)
    for name, size in zip("abcd", sizes, strict=False):
        assert {case[name] for case in kept} == set(range(size))


def test_named_parts_count_one_by_one():
    left_out = repeated([{"factors": factors} for factors in COMBINATIONS])
    kept = [factors for number, factors in enumerate(COMBINATIONS) if number not in left_out]
    for part in ("structure", "interconnection", "integrator"):
        assert {getattr(each, part) for each in kept} == {getattr(each, part) for each in COMBINATIONS}
    assert len(kept) < 20 < len(COMBINATIONS)


def test_values_that_differ_in_kind_alone_differ():
    assert not repeated([{"k": True}, {"k": 1}, {"k": 1.0}])
    assert not repeated([{"k": [1]}, {"k": [1]}])  # cannot be hashed
    assert repeated([{"k": None, "m": 1}, {"k": None, "m": 1}]) == [1]


def test_ci_runs_what_the_pages_say():
    assert re.search(r"^make test-ci ", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert re.search(r"^test-ci: setup\n\t.* -m 'not slow' ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in ("CONTRIBUTING.md", "docs/start.md"):
        assert "make test-ci" in (ROOT / page).read_text(), page
