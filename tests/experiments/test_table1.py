"""What the first table does with a seed that diverged."""

import math

import torch

from hdnn.experiments import table1


def test_a_member_that_diverged_has_no_accuracy(monkeypatch):
    def diverge(networks, *anything, **choices):
        with torch.no_grad():
            networks[1].flow.weight.fill_(math.nan)

    monkeypatch.setattr(table1, "fit_together", diverge)
    good, bad = table1.run_together(table1.SMOKE["double-moons/1/ms3"], [0, 1], None)
    assert all(0 <= value <= 100 for value in good.metrics.values())
    assert all(math.isnan(value) for value in bad.metrics.values())
