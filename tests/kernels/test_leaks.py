"""A program that ends while outputs of flows are alive ends in silence."""

import subprocess
import sys

import pytest


@pytest.mark.long
def test_an_output_that_is_alive_at_the_end_leaks_nothing() -> None:
    program = "import torch, hdnn; flow = hdnn.h2(4, 3, step=0.1); y = flow(torch.randn(5, 4))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
