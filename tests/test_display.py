"""What a terminal shows while a network trains: how fast it goes."""

import io

import pytest
import torch
from rich.console import Console

from hdnn import display
from hdnn.training import Progress


def told(iteration, rows, *, search=()):
    epoch, batch = divmod(iteration - 1, 10)
    return Progress(epoch + 1, 5, batch + 1, 10, torch.zeros(()), None, rows=rows, search=search)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("hdnn.display.time.monotonic", lambda: now[0])
    return now


def shown(seen):
    return str(seen.bar.tasks[-1].fields["numbers"])


def test_rows_a_second_are_those_since_the_first_look(clock):
    seen = display.Display()
    seen.console = Console(file=io.StringIO(), force_terminal=True)
    seen.step(told(3, 1000))
    assert "rows a second" not in shown(seen)
    clock[0] += 4
    seen.step(told(23, 1000))
    assert shown(seen).endswith(", 500 rows a second")
    seen.step(told(2, 1000, search=({"epoch": 1.0},)))  # another training begins
    assert "rows a second" not in shown(seen)
    clock[0] += 1
    seen.step(told(3, 1000, search=({"epoch": 1.0},)))
    assert shown(seen).endswith(", 100 rows a second")


def test_a_loader_does_not_tell_how_many_there_are(clock):
    seen = display.Display()
    seen.console = Console(file=io.StringIO(), force_terminal=True)
    for step in (1, 2):
        seen.step(told(step, 0))
        clock[0] += 1
    assert "rows a second" not in shown(seen)
