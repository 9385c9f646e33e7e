"""Every Python example of the README, and of the page that docs begin with, runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
START = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README + START, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n")[0] or "example")
def test_example_runs(example, capsys):
    names = {}
    exec("import torch, hdnn", names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(example, names)
    if "states" in names:
        assert torch.allclose(names["states"][-1], names["y"], atol=1e-5)
        assert torch.allclose(names["back"], names["y0"], atol=1e-5)
        assert torch.allclose(names["tail"](names["head"](names["y0"])), names["y"])
    if "recipe" in names:
        assert float(capsys.readouterr().out) > 0.95


def test_there_are_examples():
    assert len(EXAMPLES) >= 6


def test_the_readme_is_a_first_look():
    assert len(README.splitlines()) <= 120
