"""Every Python example of the README runs as it stands, one after the other."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


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


def test_readme_has_examples():
    assert len(EXAMPLES) >= 3
