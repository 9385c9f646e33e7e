"""What PyTorch is doing around a call: compiling, exporting, transforming, watching, differentiating forward.

The only place that uses PyTorch's private names. Where one is gone, the answer is the one that is right in any case and
at worst slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def exporting() -> bool:
    """Whether `torch.export` or `torch.jit.trace` writes a program down, which must hold PyTorch's operators alone.

    The flag behind `torch.compiler.is_exporting`, which before PyTorch 2.13 says yes within every compilation; where
    it is gone, neither is told from the other.
    """
    flag = getattr(torch.compiler, "_is_exporting_flag", None)
    return (torch.compiler.is_compiling() if flag is None else bool(flag)) or tracing()


def tracing() -> bool:
    """Whether `torch.jit.trace` is writing a program down; no where nobody can tell: traced flows then run unsaved."""
    try:
        return not torch.compiler.is_compiling() and bool(torch._C._is_tracing())  # a compiler cannot read the answer
    except AttributeError:
        return False


def forward_mode() -> bool:
    """Whether forward-mode differentiation is under way."""
    try:
        return bool(torch.autograd.forward_ad._current_level >= 0)
    except AttributeError:
        return _has_dual_level()


def transformed() -> bool:
    """Whether a transform of torch.func is active; yes where nobody can tell."""
    try:
        return bool(torch._C._are_functorch_transforms_active())
    except AttributeError:
        return True


def watched(unsure: bool = True) -> bool:
    """Whether a dispatch mode sees every operator, as tracing by `make_fx` does; `unsure` where nobody can tell."""
    try:
        return bool(torch._C._len_torch_dispatch_stack())
    except AttributeError:
        return unsure


_GLOBAL_HOOKS = tuple(
    f"_global_{name}" for name in ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
)


def hooked() -> bool:
    """Whether hooks watch all modules there are."""
    around = vars(torch.nn.modules.module)
    return any(map(around.get, _GLOBAL_HOOKS))


def batched(x: Tensor) -> bool:
    """Whether x stands for many tensors, in a transform or for `torch.autograd.grad(is_grads_batched=True)`."""
    try:
        return wrapped(x) or bool(torch._C._functorch.is_legacy_batchedtensor(x))
    except AttributeError:
        return not _has_memory(x)


def wrapped(x: Tensor) -> bool:
    """Whether x is a tensor of a transform, perhaps of one that has ended."""
    try:
        return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))
    except AttributeError:
        return not _has_memory(x)


# Devices that cast. Asked once: compilers before PyTorch 2.13 cannot trace the question.
CASTING = frozenset(d for d in ("cpu", "cuda", "hpu", "mps", "mtia", "xpu") if torch.amp.is_autocast_available(d))


def autocasting(device: str) -> bool:
    """Whether PyTorch casts the numbers of operations on a device just now."""
    return device in CASTING and torch.is_autocast_enabled(device)


def raw_apply(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """The `apply` of plain eager mode.

    The public one takes a third of a call's time to ask about transforms and to unwrap the tensors of ended ones.
    """
    raw: Any = super(torch.autograd.Function, function)
    try:
        apply: Callable[..., Any] = raw.apply
    except AttributeError:
        apply = function.apply
    return apply


def backward(value: Tensor) -> None:
    """`torch.autograd.backward` of one number in plain eager mode, without what it asks before."""
    run = getattr(torch.autograd.graph, "_engine_run_backward", None)
    if run is None:
        torch.autograd.backward(value)
    else:
        run((value,), (torch.ones_like(value),), False, False, (), allow_unreachable=True, accumulate_grad=True)


def overwrite(those: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
    """Copy numbers into tensors, unseen by autograd."""
    together = getattr(torch, "_foreach_copy_", None)
    with torch.no_grad():
        if together is not None:
            together(those, numbers)
            return
        for one, number in zip(those, numbers, strict=True):
            one.copy_(number)


def pulled_back(
    run: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of Σ ⟨output, cotangent⟩ by the inputs, to be used inside of autograd functions.

    `torch.func.vjp` differentiates when its own level is over; an autograd function that does so inside of another
    vjp meets tensors of a level that has ended, and PyTorch fails an assertion of its own.
    """

    def product(*values: Tensor) -> Tensor:
        return torch.stack([(x * g).sum() for x, g in zip(run(*values), cotangents, strict=True)]).sum()

    found: tuple[Tensor, ...] = torch.func.grad(product, tuple(range(len(inputs))))(*inputs)
    return found


def scan() -> Callable[..., Any]:
    """The operator that runs one layer after the other in an exported program.

    Raises:
        ImportError: if this PyTorch lacks it.
    """
    try:
        from torch._higher_order_ops.scan import scan
    except ImportError as error:
        raise ImportError(
            f"Exporting needs the operator `scan`, which PyTorch {torch.__version__} lacks. Update PyTorch."
        ) from error
    return scan


def _has_dual_level() -> bool:
    one = torch.ones(())
    try:
        torch.autograd.forward_ad.make_dual(one, one)  # type: ignore[no-untyped-call]
    except RuntimeError:  # no level
        return False
    return True


def _has_memory(x: Tensor) -> bool:
    try:
        x.data_ptr()
    except RuntimeError:  # stand-ins have none
        return False
    return True
