"""Which backend runs a call: the first that serves, or the one that was named and no other."""

from __future__ import annotations

from torch import Tensor

from hdnn.kernels.backend import Backend, Wants, wanted
from hdnn.kernels.eager import Eager
from hdnn.kernels.native import Native
from hdnn.kernels.operators import register
from hdnn.kernels.plan import Plan
from hdnn.kernels.triton import Triton

# In the order in which "auto" asks them; the last serves everything.
BACKENDS: tuple[Backend, ...] = (Native(), Triton(), Eager())


def candidates(backend: Backend | str) -> tuple[Backend, ...]:
    """All of them for "auto", else the one that is named or given.

    Raises:
        ValueError: if no backend has this name, or one that is given takes the name of another.
    """
    if backend == "auto":
        return BACKENDS
    if type(backend) is not str and isinstance(backend, Backend):
        return (backend,)
    for known in BACKENDS:
        if known.name == backend:
            return (known,)
    *names, last = [f'"{name}"' for name in ("auto", *(known.name for known in BACKENDS[::-1]))]
    raise ValueError(f"`backend` must be {', '.join(names)} or {last}, or a `Backend`; got {backend!r}.")


def check_backend(backend: Backend | str, plan: Plan | None, store: bool) -> None:
    """Refuse a named backend that is not there or cannot run this flow; only "auto" may fall back.

    Args:
        backend: by name, or itself.
        plan: of the flow.
        store: whether the states after all layers shall be kept.
    """
    found = candidates(backend)
    if isinstance(backend, Backend) and any(
        known.name == backend.name and type(known) is not type(backend) for known in BACKENDS
    ):
        raise ValueError(f'There is another backend called "{backend.name}"; give yours a name of its own.')
    for each in found:
        register(each)
    known = plan if plan is None or found[0].drives or not plan.driven else None
    if backend != "auto" and (reason := found[0].why_not(known, None, None, Wants(store))):
        raise ValueError(reason)


def chosen(backend: Backend | str, plan: Plan | None, y: Tensor, weight: Tensor, store: bool) -> Backend:
    """What runs a call.

    Raises:
        ValueError: if the user named a backend and it cannot take the call.
    """
    wants = wanted(store)
    for each in candidates(backend):
        known = plan if plan is None or each.drives or not plan.driven else None
        reason = each.why_not(known, y, weight, wants)
        if not reason and (backend != "auto" or each.worth(known, y)):
            return each
    raise ValueError(reason)
