"""Whether a network still is what it was when a training began: asked before every step, so it must take no time."""

from __future__ import annotations

from typing import Any

from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_REPLACED = ("forward", "features", "smoothness")


def watched(module: nn.Module) -> bool:
    """Whether hooks or parametrizations watch a module, or somebody has replaced what it does."""
    own = vars(module)  # a module takes long to say that it lacks an attribute
    if any(own[name] for name in _HOOKS) or "parametrizations" in own["_modules"]:
        return True
    return _replaced(own)


class Standing:
    """The modules and parameters of a network that nobody watches, as they are now.

    Args:
        network: of which no module is `watched`.
    """

    def __init__(self, network: nn.Module) -> None:
        self._held: list[tuple[dict[str, Any], str, object]] = []
        self._counted: list[tuple[dict[str, Any], int]] = []
        self._hooks: list[dict[int, Any]] = []
        self._own = [vars(module) for module in network.modules()]
        for own in self._own:
            self._held += [(own, name, own[name]) for name in (*_HOOKS, "_modules", "_parameters")]
            self._hooks += [own[name] for name in _HOOKS]
            for parts in (own["_modules"], own["_parameters"]):
                self._held += [(parts, name, part) for name, part in parts.items()]
                self._counted.append((parts, len(parts)))

    def holds(self) -> bool:
        """Whether the same modules and parameters stand where they stood, and nobody has come to watch."""
        for place, name, part in self._held:
            if place.get(name) is not part:
                return False
        if any(self._hooks) or any(len(parts) != count for parts, count in self._counted):
            return False
        return all(own.keys().isdisjoint(_REPLACED) or not _replaced(own) for own in self._own)


def _replaced(own: dict[str, Any]) -> bool:
    return any(callable(own.get(name)) for name in _REPLACED)
