"""What a flow does to its states, computed after the fact: nothing here trains and nothing here draws."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn.analysis.features import PrincipalComponents, principal_components

# Lazy, because scikit-learn and torch take seconds to import and `hdnn --help` must not wait for them.
_HOMES = {
    "PrincipalComponents": "features",
    "principal_components": "features",
}

__all__ = ["PrincipalComponents", "principal_components"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
