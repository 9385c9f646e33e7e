"""What the first table does with a seed that diverged."""

import math

import torch

from hdnn.experiments import table1


def test_a_member_that_diverged_has_no_accuracy(monkeypatch):
    def diverge(networks, *anything, **choices):
        with torch.no_grad():
            networks[1].flow.weight.fill_(math.nan)
        return [[{"loss": math.nan}] for _ in networks]

    monkeypatch.setattr(table1, "fit_together", diverge)
    good, bad = table1.run_together(table1.SMOKE["double-moons/1/ms3"], [0, 1], None)
    assert all(0 <= value <= 100 for value in good.metrics.values())
    assert all(math.isnan(value) for value in bad.metrics.values())


def test_of_several_tries_that_of_the_smallest_training_objective_counts(monkeypatch):
    config = table1.SMOKE["swiss-roll/4/ms1"]
    assert config.tries == 2
    losses = iter([0.5, math.nan, 0.3, 0.2])

    def mark(networks, x, y, recipe, *, seeds):
        """Each network says what its loss was, in its output layer; inputs are those of its seed."""
        assert len(set(seeds)) == 4
        assert torch.equal(x[0], x[1])
        assert not torch.equal(x[1], x[2])
        histories = [[{"loss": next(losses)}] for _ in networks]
        for network, history in zip(networks, histories, strict=True):
            with torch.no_grad():
                network.head.bias.fill_(history[-1]["loss"])
        return histories

    monkeypatch.setattr(table1, "fit_together", mark)
    x = torch.arange(2.0).reshape(2, 1, 1).expand(2, 6, 2)
    found = table1._best_of(config, x, torch.zeros(2, 6, dtype=torch.long), [7, 8])
    assert [round(float(network.head.bias.detach()), 3) for network in found] == [0.5, 0.2]
