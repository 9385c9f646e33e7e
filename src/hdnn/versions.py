"""What takes part in a result, to tell later whether the same could come out again."""

from __future__ import annotations


def versions() -> dict[str, str]:
    """Of what took part: hdnn, PyTorch, NumPy and Python."""
    import platform

    import numpy as np
    import torch

    import hdnn

    return {
        "hdnn": hdnn.__version__,
        "torch": str(torch.__version__),
        "numpy": str(np.__version__),
        "python": platform.python_version(),
    }
