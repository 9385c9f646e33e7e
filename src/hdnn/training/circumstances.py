"""What takes part in a training beside data, recipe and weights, and may make a difference to the last bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hdnn.kernels import native
from hdnn.ranks import present


def circumstances(device: torch.device) -> dict[str, str]:
    """Device, processes, threads, version of PyTorch, instruction sets of its kernels and ours, in words by name."""
    ranks = present()
    return {
        "processes": "1" if ranks is None else str(ranks.count),
        "device": device.type,
        "threads": str(torch.get_num_threads()),
        "PyTorch": str(torch.__version__),
        "PyTorch's instruction set": torch.backends.cpu.get_cpu_capability(),
        "hdnn's instruction set": native.instruction_set(),
    }


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs, in words as in "threads 1 (now 2)"; empty if nothing does, or if nothing is known of before."""
    changed = [(name, before[name], word) for name, word in now.items() if before.get(name, word) != word]
    return ", ".join(f"{name} {then} (now {word})" for name, then, word in changed)
