"""Runs killed at random moments, as the benchmark kills them: a few of each kind."""

import math
import random

import pytest

import kills


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", kills.CASES)
def test_killed_runs_end_in_the_same_bits(name, tmp_path):
    kills.train(kills.SOURCE, kills.ADAM, tmp_path / "warm")
    row = kills.row(name, kills.forked(kills.CASES[name]), 10, random.Random(0), math.inf)
    assert row[-1] == 0
    assert row[3] >= 10
