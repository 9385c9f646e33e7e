"""Networks and recipes in the words of the native training step, and back.

Legend: E networks of one shape, s samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hdnn.flow import Flow
from hdnn.interconnections import Fixed, Inverse, Learned
from hdnn.kernels import calls, training, transforms
from hdnn.kernels.training import PARTS, Setup, Trainees
from hdnn.networks import Network, ZeroPadding
from hdnn.training.recipe import Recipe
from hdnn.training.tensors import Memory


def why_not(network: Network, recipe: Recipe, *, penalties: bool = False) -> str:
    """Why the native training step cannot train a network by a recipe, in words; empty if it can.

    Args:
        network: it would be trained.
        recipe: how.
        penalties: whether the objective has penalties of the user's own.

    Example:
        >>> import hdnn
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, step=0.1))
        >>> why_not(network, Recipe(method="alternating"))
        'the alternating method trains output layer and flow in turn'
    """
    weight = network.head.weight
    return (
        _recipe_refuses(recipe, penalties)
        or training.why_not(weight.dtype, weight.device)
        or _network_refuses(network)
        or _surroundings_refuse(network)
    )


def _recipe_refuses(recipe: Recipe, penalties: bool) -> str:
    if recipe.method == "alternating":
        return "the alternating method trains output layer and flow in turn"
    if recipe.optimizer == "lbfgs":
        return "the line search of L-BFGS evaluates the objective as often as it likes"
    return "the objective has penalties" if penalties else ""


def _network_refuses(network: Network) -> str:
    lift, flow, head = network.lift, network.flow, network.head
    # Exactly these: what a subclass computes in addition nobody knows here.
    if type(network) is not Network or type(flow) is not Flow:
        return f"it knows `Network` and `Flow` themselves, not {type(network).__name__} and {type(flow).__name__}"
    if type(lift) not in (ZeroPadding, nn.Linear) or type(head) is not nn.Linear:
        return f"lift and head must be linear layers or zeros; got {type(lift).__name__} and {type(head).__name__}"
    if head.bias is None or (isinstance(lift, nn.Linear) and lift.bias is None):
        return "lift and head must have a bias"
    if flow.plan is None:
        return "no native kernel serves the flow (integrator, structure or activation)"
    if flow.plan.images:
        return "images are lifted by a convolution"
    if flow.backend == "eager" or flow.memory == "store":
        return f'the flow has backend="{flow.backend}", memory="{flow.memory}"'
    if head.in_features != flow.features:
        return f"the head reads {head.in_features} numbers of {flow.features} features"
    J = flow.interconnection_matrix
    if type(flow.interconnection) not in (Fixed, Inverse, Learned) or (J is not None and not torch.equal(J, -J.mT)):
        return "J is not one of the library's, or not skew"
    return ""


def _surroundings_refuse(network: Network) -> str:
    parameters = [p for _, p in network.named_parameters(remove_duplicate=False)]
    parts = set(tensors_of(network))
    if len(parts) != len(parameters) or not parts >= {"weight", "bias", "head_weight", "head_bias"}:
        return "parameters are not where they are in a new network"
    if len({p.data_ptr() for p in parameters if p.numel()}) < sum(p.numel() > 0 for p in parameters):
        return "some parameters are tied to each other"
    if any(p.dtype != network.head.weight.dtype or p.device != network.head.weight.device for p in parameters):
        return "parameters differ in dtype or device"
    if any(type(p) is not nn.Parameter or p._backward_hooks for p in parameters):
        return "parameters are not plain, or watched by hooks"
    watching = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "parametrizations")
    for module in network.modules():
        if any(getattr(module, name, None) for name in watching):
            return f"hooks or parametrizations watch its {type(module).__name__}"
    if transforms.transformed() or transforms.watched() or transforms.forward_mode():
        return "a transform or mode of PyTorch is active"
    return "autocast is active" if transforms.autocasting("cpu") else ""


def tensors_of(network: Network) -> dict[str, nn.Parameter]:
    """The parameters of a network by their part in the native step, in its order."""
    lift, flow, head = network.lift, network.flow, network.head
    own: dict[str, Tensor | None] = {
        "lift_weight": lift.weight if isinstance(lift, nn.Linear) else None,
        "lift_bias": lift.bias if isinstance(lift, nn.Linear) else None,
        "weight": flow.weight,
        "bias": flow.bias,
        "interconnection": flow.interconnection_weight,
        "head_weight": head.weight,
        "head_bias": head.bias,
    }
    return {name: p for name in PARTS if isinstance(p := own[name], nn.Parameter)}


def _inputs(lift: nn.Module) -> int:
    """d."""
    return lift.in_features if isinstance(lift, nn.Linear) else int(lift.inputs)  # type: ignore[arg-type]


def setup_of(network: Network, recipe: Recipe) -> Setup:
    """What the native step is asked to do; for networks and recipes that `why_not` says nothing about."""
    flow, outputs = network.flow, network.head.out_features
    plan = flow.plan
    loss: Literal["squares", "binary", "classes"] = "binary" if outputs == 1 else "classes"
    optimizer = recipe.optimizer
    index = flow.structure.index(flow.features, flow.space)
    if plan is None or index is None or optimizer == "lbfgs":
        raise ValueError(f"The native training step cannot serve: {why_not(network, recipe)}.")
    J = flow.interconnection_matrix
    learned = isinstance(flow.interconnection, Learned)
    return Setup(
        plan=plan,
        inputs=_inputs(network.lift),
        outputs=outputs,
        linear=isinstance(network.lift, nn.Linear),
        loss="squares" if network.task == "regression" else loss,
        optimizer=optimizer,
        alpha=recipe.smoothness,
        alpha_c=recipe.head_decay,
        weight_decay=recipe.weight_decay,
        label_smoothing=recipe.label_smoothing,
        clip=recipe.clip or 0.0,
        repeats=int((index != 0).sum()) // max(1, int(index.max())),
        index=index if calls.full_weights(plan) and plan.structure != "dense" else None,
        J=J.reshape(-1, flow.features, flow.features) if plan.drive == "matrix" and J is not None else None,
        J_index=flow.interconnection.constant(flow.features, flow.layers) if learned else None,
        trains=tuple(name for name, p in tensors_of(network).items() if p.requires_grad),
    )


class Fused:
    """Networks of one shape that train by native steps; each ends where a training of its own would, to the bit.

    Args:
        networks: E of them; `unstack` gives them their weights.
        recipe: how; see `why_not`.

    Example:
        >>> import torch, hdnn
        >>> network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, step=0.1))
        >>> fused = Fused([network], Recipe())
        >>> x, y, order = torch.randn(1, 6, 2), torch.tensor([[0, 1, 1, 0, 1, 0]]), torch.randperm(6)[None]
        >>> losses, outputs = fused.steps(x, y, None, order, size=4, rates=[0.1, 0.1])
        >>> losses.shape, outputs.shape
        (torch.Size([1, 2]), torch.Size([1, 6, 1]))
        >>> fused.unstack()
    """

    def __init__(self, networks: Sequence[Network], recipe: Recipe) -> None:
        self.networks = networks
        self.setup = setup_of(networks[0], recipe)
        rows = [torch.cat([p.detach().flatten() for p in tensors_of(network).values()]) for network in networks]
        self.trainees = Trainees.fresh(torch.stack(rows), self.setup.optimizer)

    def steps(
        self, x: Tensor, y: Tensor, weight: Tensor | None, order: Tensor, size: int, rates: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """One step for each rate, on batches of `size` rows in this order; the last batch may be smaller.

        Args:
            x: (E, s, d).
            y: (E, s) or (E, s, o).
            weight: (E, s) or None.
            order: (E, rows).
            size: rows of a batch.
            rates: one for each batch of the order.

        Returns:
            Objectives (E, steps) and outputs (E, rows, o), before the steps.
        """
        rows = order.shape[1]
        bounds = torch.tensor([*range(0, rows, size), rows])
        each = torch.tensor(rates, dtype=torch.float64)
        return training.train(self.setup, self.trainees, x, y, order, bounds, each, weight)

    def unstack(self) -> None:
        """Give each network its weights."""
        with torch.no_grad():
            for network, row in zip(self.networks, self.trainees.parameters, strict=True):
                for p, values in zip(tensors_of(network).values(), self._parted(row), strict=True):
                    p.copy_(values.view_as(p))

    def memory(self, member: int = 0) -> Memory:
        """Copies of what the optimizer of a member remembers, by parameter and name as PyTorch's optimizer has it."""
        found: Memory = {}
        if not self.trainees.done:
            return found
        for name, kept in self._kept().items():
            for i, (part, values) in enumerate(zip(self._names(), self._parted(kept[member]), strict=True)):
                if part in self.setup.trains:
                    p = tensors_of(self.networks[member])[part]
                    found[f"{i}.{name}"] = values.clone().view_as(p)
                    if name != "momentum_buffer":
                        found[f"{i}.step"] = torch.tensor(float(self.trainees.done))
        return found

    def remember(self, memory: Memory, member: int = 0) -> None:
        """Go on with a memory as `memory` gives it, of the right shapes."""
        for name, kept in self._kept().items():
            for i, (part, values) in enumerate(zip(self._names(), self._parted(kept[member]), strict=True)):
                if part in self.setup.trains and isinstance(given := memory.get(f"{i}.{name}"), Tensor):
                    values.copy_(given.flatten())
                    if isinstance(step := memory.get(f"{i}.step"), Tensor):
                        self.trainees.done = int(step)

    def _names(self) -> list[str]:
        return list(tensors_of(self.networks[0]))

    def _kept(self) -> dict[str, Tensor]:
        if self.trainees.second is None:
            return {"momentum_buffer": self.trainees.first}
        return {"exp_avg": self.trainees.first, "exp_avg_sq": self.trainees.second}

    def _parted(self, row: Tensor) -> Sequence[Tensor]:
        """The numbers of each parameter that is there."""
        return torch.split(row, [p.numel() for p in tensors_of(self.networks[0]).values()])
