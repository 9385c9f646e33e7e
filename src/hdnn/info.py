"""What runs here: versions, devices, backends."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from hdnn.kernels import choice
from hdnn.runs import versions


def info() -> dict[str, Any]:
    """Versions, devices and backends of this installation, in plain values.

    Returns:
        "versions", "platform", "processors" (of the machine), "threads" (that PyTorch uses), "devices" and "backends"
        (name to whether it runs here, or why not).

    Example:
        >>> info()["backends"]["eager"]
        'available'
    """
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processors": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "devices": _devices(),
        "backends": {backend.name: backend.describe() for backend in choice.BACKENDS[::-1]},
    }


def _devices() -> list[str]:
    cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda]
