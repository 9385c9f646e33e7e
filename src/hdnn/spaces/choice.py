"""Which space was meant by what was given for it."""

from __future__ import annotations

from hdnn.arguments import factor
from hdnn.spaces.grids import Images
from hdnn.spaces.space import Space
from hdnn.spaces.vectors import VECTORS


def space_of(given: Space | type[Space] | None, kernel_size: int | None = None) -> Space:
    """The space that was given itself, by its class, or by the kernel size of images; vectors where nothing is.

    Raises:
        TypeError: if it is no space.
        ValueError: if both are given.
    """
    if given is not None and kernel_size is not None:
        raise ValueError(
            f"`kernel_size={kernel_size}` is short for `space=Images({kernel_size})`; got both it and "
            f"`space={given!r}`. Give one of them."
        )
    if given is None:
        return VECTORS if kernel_size is None else Images(kernel_size)
    remedy = "Use `Vectors()`, `Images(kernel_size)`, `Signals(kernel_size)` or `Graph()`."
    return factor("space", given, Space, {}, remedy)  # type: ignore[type-abstract]
