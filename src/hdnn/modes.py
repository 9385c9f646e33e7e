"""The mode of modules, training or evaluation, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*parts: object) -> Iterator[None]:
    """Read modules in evaluation mode: no dropout, no running statistics moved; then every module has its mode again.

    Args:
        parts: modules; what is none, such as a function that serves as a layer, is passed over.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        >>> with evaluating(network):
        ...     network[1].training
        False
        >>> network[1].training
        True
    """
    with _in_mode(parts, training=False):
        yield


@contextmanager
def training(*parts: object) -> Iterator[None]:
    """Use modules in training mode, and then every module has its mode again.

    Args:
        parts: as for `evaluating`.
    """
    with _in_mode(parts, training=True):
        yield


@contextmanager
def _in_mode(parts: tuple[object, ...], *, training: bool) -> Iterator[None]:
    roots = [part for part in parts if isinstance(part, nn.Module)]
    before = {module: module.training for root in roots for module in root.modules()}
    changed = [root for root in roots if training or any(module.training for module in root.modules())]
    for root in changed:
        root.train(training)  # a module may overrule it, as one whose statistics are to stay does
    try:
        yield
    finally:
        for root in changed:
            root.train(before[root])
        for module, mode in before.items():
            module.training = mode
