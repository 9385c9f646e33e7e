"""Networks and recipes in the words of the native training step, and why some have none.

Legend: E networks of one shape, P numbers in the parameters of one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from hdnn.flow import Flow
from hdnn.interconnections import Fixed, Inverse, Learned
from hdnn.kernels import calls, training, transforms
from hdnn.kernels.training import PARTS, Setup
from hdnn.networks import Network, SequenceNetwork, ZeroPadding
from hdnn.training.losses import Known
from hdnn.training.recipe import Recipe
from hdnn.training.standing import watched


def why_not(network: nn.Module, recipe: Recipe) -> str:
    """Why the native training step cannot train a network by a recipe, in words; empty if it can.

    Args:
        network: it would be trained.
        recipe: how.

    Example:
        >>> import hdnn
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, step=0.1))
        >>> why_not(network, Recipe(method="alternating"))
        'the alternating method trains output layer and flow in turn'
    """
    if reason := _recipe_refuses(recipe):
        return reason
    if isinstance(network, SequenceNetwork):
        return "sequences drive the flow, which takes their steps by its own kernels"
    # Exactly these: what a subclass computes in addition nobody knows here.
    if type(network) is not Network and not _is_chain(network):
        return f"it knows `Network` itself and `Sequential(linear, Flow, linear)`, not {type(network).__name__}"
    return _network_refuses(network) or _surroundings_refuse(network) or _numbers_refuse(recipe)


def _recipe_refuses(recipe: Recipe) -> str:
    if recipe.method == "alternating":
        return "the alternating method trains output layer and flow in turn"
    if recipe.optimizer == "lbfgs":
        return "the line search of L-BFGS evaluates the objective as often as it likes"
    return ""


def _numbers_refuse(recipe: Recipe) -> str:
    if recipe.precision != "full":
        return "it computes in the precision of the weights alone"
    return "it keeps no mean of the weights" if recipe.average else ""


def _is_chain(model: nn.Module) -> bool:
    """Whether a model is a lift, a flow and a head, one after the other, on rows of numbers."""
    return type(model) is nn.Sequential and len(model) == 3 and isinstance(model[0], nn.Linear | ZeroPadding)


def parts_of(network: nn.Module) -> tuple[Any, Any, Any]:
    """Lift, flow and head, of a `Network` or of a chain of these three."""
    if isinstance(network, nn.Sequential):
        return network[0], network[1], network[2]
    return network.lift, network.flow, network.head


def _network_refuses(network: nn.Module) -> str:
    lift, flow, head = parts_of(network)
    if type(flow) is not Flow:
        return f"it knows `Flow` itself, not {type(flow).__name__}"
    if type(lift) not in (ZeroPadding, nn.Linear, nn.Conv2d) or type(head) is not nn.Linear:
        told = f"{type(lift).__name__} and {type(head).__name__}"
        return f"lift and head must be linear layers, zeros or a convolution of images; got {told}"
    if head.bias is None or (isinstance(lift, nn.Linear | nn.Conv2d) and lift.bias is None):
        return "lift and head must have a bias"
    if reason := training.why_not(head.weight.dtype, head.weight.device):
        return reason
    if flow.plan is None or flow.plan.driven:
        return "no native kernel serves the flow (integrator, structure or activation)"
    if flow.plan.images != isinstance(lift, nn.Conv2d):
        return "the lift is not of the space of the flow"
    if isinstance(lift, nn.Conv2d) and not _is_plain(lift):
        return "it knows the convolution of `image_classifier` alone, 3 x 3 with padding 1, as a lift of images"
    if flow.backend not in ("auto", "native") or flow.memory == "store":
        return f'the flow has backend="{flow.backend}", memory="{flow.memory}"'
    if head.in_features != flow.features and (not flow.plan.images or head.in_features % flow.features):
        return f"the head reads {head.in_features} numbers of {flow.features} features"
    if flow.structure.index(flow.features, flow.space) is None:
        return f"the entries of K are no free numbers under `{flow.structure!r}`"
    if type(flow.interconnection) not in (Fixed, Inverse, Learned):
        return f"it knows the library's interconnections, not {type(flow.interconnection).__name__}"
    return ""


def _is_plain(lift: nn.Conv2d) -> bool:
    """Whether a convolution is the one that native steps know."""
    sizes = (lift.kernel_size, lift.stride, lift.dilation, lift.groups)
    borders = lift.padding in ((1, 1), "same") and lift.padding_mode == "zeros"
    return sizes == ((3, 3), (1, 1), (1, 1), 1) and borders


def _surroundings_refuse(network: nn.Module) -> str:
    head = parts_of(network)[2]
    parameters = [p for _, p in network.named_parameters(remove_duplicate=False)]
    parts = set(tensors_of(network))
    if len(parts) != len(parameters) or not parts >= {"weight", "bias", "head_weight", "head_bias"}:
        return "parameters are not where they are in a new network"
    if overlap(parameters):
        return "some parameters are tied to each other"
    if any(p.dtype != head.weight.dtype or p.device != head.weight.device for p in parameters):
        return "parameters differ in dtype or device"
    watchers = ("_backward_hooks", "_post_accumulate_grad_hooks")
    if any(type(p) is not nn.Parameter or any(getattr(p, name, None) for name in watchers) for p in parameters):
        return "parameters are not plain, or watched by hooks"
    if transforms.hooked():
        return "hooks watch all modules"
    for module in network.modules():
        if watched(module):
            return f"hooks or parametrizations watch its {type(module).__name__}"
    if transforms.transformed() or transforms.watched() or transforms.forward_mode():
        return "a transform or mode of PyTorch is active"
    return "autocast is active" if transforms.autocasting("cpu") else ""


def overlap(parameters: Sequence[Tensor]) -> bool:
    """Whether some share numbers, or one has some of its own more than once."""
    filled = [p for p in parameters if p.numel()]
    if any(step == 0 and size > 1 for p in filled for size, step in zip(p.shape, p.stride(), strict=True)):
        return True
    ends = sorted((p.data_ptr(), p.data_ptr() + p.element_size() * _span(p)) for p in filled)
    return any(stop > start for (_, stop), (start, _) in itertools.pairwise(ends))


def _span(p: Tensor) -> int:
    """Numbers from its first to its last."""
    return 1 + sum((size - 1) * step for size, step in zip(p.shape, p.stride(), strict=True))


def tensors_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a network by their part in the native step, in its order."""
    lift, flow, head = parts_of(network)
    own: dict[str, Tensor | None] = {
        "lift_weight": lift.weight if isinstance(lift, nn.Linear | nn.Conv2d) else None,
        "lift_bias": lift.bias if isinstance(lift, nn.Linear | nn.Conv2d) else None,
        "weight": flow.weight,
        "bias": flow.bias,
        "damping": flow.damping_weight,
        "interconnection": flow.interconnection_weight,
        "head_weight": head.weight,
        "head_bias": head.bias,
    }
    return {name: p for name in PARTS if isinstance(p := own[name], nn.Parameter)}


def takes(network: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a sample of a shape is what a network reads: (d,), or (C, H, W)."""
    lift = parts_of(network)[0]
    if isinstance(lift, nn.Conv2d):
        return len(shape) == 3 and shape[0] == lift.in_channels and shape[1] * shape[2] == _pixels(network)
    return tuple(shape) == (_inputs(lift),)


def _inputs(lift: nn.Module) -> int:
    """d."""
    return lift.in_features if isinstance(lift, nn.Linear) else int(lift.inputs)  # type: ignore[arg-type]


def wanted(network: nn.Module) -> str:
    """The same in words."""
    lift = parts_of(network)[0]
    if isinstance(lift, nn.Conv2d):
        return f"images (B, {lift.in_channels}, H, W) of {_pixels(network)} pixels"
    return f"rows of {_inputs(lift)} numbers, (B, {_inputs(lift)})"


def _pixels(network: nn.Module) -> int:
    """Of the images that the head reads."""
    _, flow, head = parts_of(network)
    return int(head.in_features // flow.features)


def sighted(setup: Setup, shape: Sequence[int]) -> Setup:
    """A setup for samples of a shape: of images a network knows but how many pixels they have."""
    return setup if setup.image is None else replace(setup, image=tuple(shape))  # type: ignore[arg-type]


def setup_of(network: nn.Module, recipe: Recipe, loss: Known | None = None) -> Setup:
    """What the native step is asked to do; for networks and recipes that `why_not` says nothing about.

    Of images with all pixels in one row: `sighted` says how they lie.

    Args:
        network: to be trained.
        recipe: how.
        loss: that is given; None where it is the network's own.
    """
    lift, flow, head = parts_of(network)
    plan, outputs = flow.plan, head.out_features
    own: Literal["squares", "binary", "classes"] = "binary" if outputs == 1 else "classes"
    if getattr(network, "task", "") == "regression":
        own = "squares"
    optimizer = recipe.optimizer
    index = flow.structure.index(flow.features, flow.space)
    if plan is None or index is None or optimizer == "lbfgs":
        raise ValueError(f"The native training step cannot serve: {why_not(network, recipe)}.")
    index = index.reshape(index.shape[:2])
    image = (lift.in_channels, 1, _pixels(network)) if isinstance(lift, nn.Conv2d) else None
    J = flow.interconnection_matrix
    learned = isinstance(flow.interconnection, Learned)
    return Setup(
        plan=plan,
        inputs=math.prod(image) if image else _inputs(lift),
        outputs=outputs,
        linear=isinstance(lift, nn.Linear | nn.Conv2d),
        loss=own if loss is None else loss.kind,
        optimizer=optimizer,
        alpha=recipe.smoothness,
        alpha_c=recipe.head_decay,
        weight_decay=recipe.weight_decay,
        label_smoothing=recipe.label_smoothing if loss is None else loss.label_smoothing,
        clip=recipe.clip or 0.0,
        repeats=int((index != 0).sum()) // max(1, int(index.max())),
        index=index if calls.full_weights(plan) and plan.structure != "dense" else None,
        J=J.reshape(-1, flow.features, flow.features) if plan.drive == "matrix" and J is not None else None,
        J_index=flow.interconnection.constant(flow.features, flow.layers) if learned else None,
        trains=tuple(name for name, p in tensors_of(network).items() if p.requires_grad),
        image=image,
    )
