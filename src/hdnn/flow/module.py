"""The flow: N integration steps of y' = J ∂H/∂y as one PyTorch module.

Legend: N layers, n features, m hidden units, h step, T = N h horizon, K_j and b_j the weights of layer j = 0 … N − 1,
y_j the state before it (y_0 the input, y_N the output); M = ∂y_N/∂y_0 its Jacobian.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hdnn.activations import Activation, activation_of, tanh
from hdnn.arguments import truth
from hdnn.flow import settings
from hdnn.flow.attributes import SETTINGS, constant, restored, setting
from hdnn.flow.depth import part, refined
from hdnn.flow.indices import Indices, upgraded
from hdnn.flow.memory import Memory, again, layer_by_layer
from hdnn.flow.parameters import draw, put
from hdnn.flow.plans import make_plan, served
from hdnn.flow.states import check_numbers, check_state, is_jagged, over_rows, read
from hdnn.hamiltonian import Field, Hamiltonian
from hdnn.integrators import Integrator, integrator_of
from hdnn.interconnections import Interconnection, interconnection_of, inverse_transpose
from hdnn.kernels import native
from hdnn.kernels.plan import Plan
from hdnn.kernels.transforms import autocasting
from hdnn.structures import Structure, structure_of

Backend = Literal["auto", "eager", "native"]


class Flow(nn.Module):
    r"""A Hamiltonian network: N steps of an integrator along y' = J Kᵀ σ(K y + b), each step with its own K and b.

    Maps a state (..., n) to a state (..., n), or images (B, n, H, W) to images (B, n, H, W) when `kernel_size` is
    given. Parameters are `weight` (N, \*free shape of the structure), `bias` (N, m) and, for a learned J,
    `interconnection_weight`; a constant J is the buffer `interconnection_matrix`.

    Args:
        features: n, the size of the state.
        layers: N; 0 gives the identity.
        step: h, the integration step. Give exactly one of `step` and `horizon`.
        horizon: T = N h.
        structure: which entries of K are free.
        interconnection: which J; also "canonical", "upper_ones" or a skew tensor (n, n), which become `Fixed`.
        activation: σ; also by name, as "relu". (Factors without arguments may be given by their class.)
        integrator: how a step is taken.
        kernel_size: None for vectors; odd k for images, a zero-padded k x k convolution K.
        shared: one K and b for all layers (the time-invariant network).
        backend: "eager" runs layer by layer in PyTorch; "native" runs all layers in one compiled call, on the CPU,
            and stores nothing per layer; "auto" takes native where it is installed and serves the call.
        memory: what the eager path keeps for the backward pass. "store", its default, keeps every layer; "recompute"
            about √N states, for one more forward pass; "reverse" two states at any depth, for two more, where the step
            has an explicit inverse: it undoes the layers from the output. That costs few digits at small steps (with
            N(0, 1/n) weights, tanh, h = 0.05 and 1024 layers, relative errors of gradients reach 5e-6 in float32,
            where those of "store" reach 4e-6, and 7e-15 in float64), but rounding grows with ‖M⁻¹‖, and a backward
            pass that misses the input by more than 1e-3 raises. Native keeps no layer whatever is named; so "store"
            takes the eager path under "auto", and the others take native where it serves.
        init_std: standard deviation of the initial K and b (1.0 is the papers' choice). None means 1/√n for b and
            1/√(n k²) for K, k = 1 for vectors; less where K has more rows than columns, so that h ‖K‖² is the same.
        device: where the parameters are created.
        dtype: of the parameters, floating point.

    Attributes:
        plan: what a fused kernel is asked to run; None where only the eager path serves.

    Raises:
        ValueError: if sizes are not positive, if not exactly one of `step` and `horizon` is given, or if the factors
            do not fit each other; each message says what to use instead.

    References:
        Galimberti, Xu, Ferrari-Trecate, A unified framework for Hamiltonian deep neural networks, L4DC 2021,
        equations (3)-(6), https://arxiv.org/abs/2104.13166

    Example:
        >>> import torch, hdnn
        >>> flow = hdnn.Flow(features=4, layers=8, step=0.1, structure=hdnn.BlockDiagonal(),
        ...                  interconnection=hdnn.Fixed(hdnn.canonical(4)), integrator=hdnn.SymplecticEuler())
        >>> y = flow(torch.randn(10, 4))
        >>> y.shape
        torch.Size([10, 4])
    """

    weight: nn.Parameter
    bias: nn.Parameter
    interconnection_weight: nn.Parameter | None
    interconnection_matrix: Tensor | None
    features: int = constant("features", "n, the size of the state.", of_equation=True)
    layers: int = constant("layers", "N.")
    step: float = constant("step", "h.")
    shared: bool = constant("shared", "Whether all layers have one K and b.")
    structure: Structure = constant("structure", "Which entries of K are free.", of_equation=True)
    interconnection: Interconnection = constant("interconnection", "Which J.", of_equation=True)
    kernel_size: int | None = constant("kernel_size", "None for vectors, k for k x k convolutions.", of_equation=True)
    activation: Activation = setting("activation", "σ.", of_equation=True)
    integrator: Integrator = setting("integrator", "How a step is taken.")
    backend: Backend = setting("backend", "What runs the layers.")
    memory: Memory | None = setting("memory", "What the eager path keeps for the backward pass.")
    init_std: float | None = setting("init_std", "Standard deviation of the initial weights and biases, if given.")

    def __init__(
        self,
        features: int,
        layers: int,
        *,
        step: float | None = None,
        horizon: float | None = None,
        structure: Structure | type[Structure],
        interconnection: Interconnection | type[Interconnection] | Tensor | str,
        activation: Activation | type[Activation] | str = tanh,
        integrator: Integrator | type[Integrator] | str,
        kernel_size: int | None = None,
        shared: bool = False,
        backend: Backend = "auto",
        memory: Memory | None = None,
        init_std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = settings.checked_sizes(features, layers, kernel_size)
        features, layers, kernel_size = sizes
        self._layers = layers
        self._step = settings.step_size(layers, step, horizon)
        self._shared = truth("shared", shared)
        self._init_std = settings.checked_deviation(init_std)
        dtype, structure = settings.floating_point(dtype), structure_of(structure)
        stored = 1 if shared else layers
        settings.check_room(structure, sizes, stored, dtype, device)
        interconnection = interconnection_of(interconnection, features)
        hamiltonian = Hamiltonian(features, structure, interconnection, activation_of(activation), kernel_size)
        self._choose(hamiltonian, integrator_of(integrator), backend, memory)

        free = structure.free_shape(features, kernel_size)
        self.weight = nn.Parameter(torch.empty(stored, *free, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(stored, self.hamiltonian.hidden, device=device, dtype=dtype))
        shape = interconnection.free_shape(features)
        learned = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if shape else None
        self.register_parameter("interconnection_weight", learned)
        self._indices = Indices(self.hamiltonian, layers)
        self.interconnection_matrix = None
        if self._constant_J() is not None:  # a buffer that stays None would confuse torch.export
            del self.interconnection_matrix
            self.register_buffer("interconnection_matrix", None)
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]
        self.reset_parameters()
        settings.warn_of_rounding(dtype, self.step, layers)

    def _settle(self, **changed: Any) -> None:
        """Take attributes that were set, if they fit all others."""
        now = {name: getattr(self, name) for name in SETTINGS} | changed
        self._init_std = settings.checked_deviation(now["init_std"])
        H = dataclasses.replace(self.hamiltonian, activation=activation_of(now["activation"]))
        self._choose(H, integrator_of(now["integrator"]), now["backend"], now["memory"])

    def _choose(
        self, hamiltonian: Hamiltonian, integrator: Integrator, backend: Backend, memory: Memory | None
    ) -> None:
        """Take what may be chosen anew during the life of a flow, if it fits together."""
        settings.check_separable(integrator, hamiltonian)
        plan = make_plan(hamiltonian, integrator, self.step, self.layers, self.shared)
        settings.check_backend(backend, plan)
        settings.check_memory(memory, backend, integrator)
        self.hamiltonian, self._integrator, self.plan = hamiltonian, integrator, plan
        self._backend, self._memory = backend, memory

    def reset_parameters(self) -> None:
        """Draw K and b anew, as `init_std` says, and put J back to its start.

        Raises:
            RuntimeError: if a hook computes them from others, which cannot be told what to give.
        """
        for_K, for_b = settings.deviations(self.features, self.hamiltonian.hidden, self.kernel_size)
        draw(self, "weight", for_K if self.init_std is None else self.init_std)
        draw(self, "bias", for_b if self.init_std is None else self.init_std)
        if (start := self.interconnection.initial_free()) is not None:
            put(self, "interconnection_weight", start)
        if (J := self._constant_J()) is not None:
            # A copy: the factors may be shared between models, a buffer may be written to.
            self.interconnection_matrix = J.to(self.weight, copy=True)

    def _constant_J(self) -> Tensor | None:
        J = self.interconnection
        return None if J.free_shape(self.features) else J.constant(self.features, self.layers)

    @property
    def horizon(self) -> float:
        """T = N h."""
        return self.layers * self.step

    @property
    def K(self) -> Tensor:
        """The weights of all layers, (N, m, n) or (N, m, n, k, k); leading size 1 where they are shared."""
        weight = self.weight
        return self.structure.build(weight, self._indices.on(weight.device).weight)

    @property
    def J(self) -> Tensor:
        """The interconnection, (n, n), or (N, n, n) where it varies by layer; for `Inverse`, J = K⁻ᵀ.

        Raises:
            ValueError: for `Inverse`, where K has no inverse: an odd number of features, a singular K, or a
                convolution of more than one tap.
        """
        if (J := self._J()) is not None:
            return J
        J = inverse_transpose(self.K)
        return J[0] if self.shared else J

    @property
    def preserves_structure(self) -> bool:
        """Whether M J Mᵀ = J with this flow's `J` at every input (M = ∂y_N/∂y_0), up to rounding.

        True when all layers share one constant skew J and the integrator keeps it: ImplicitMidpoint always,
        SymplecticEuler and StormerVerlet on the separable fields that they accept. For a canonical J this is
        symplecticity. (For `Inverse` and convolutions of several taps J is an operator that `flow.J` cannot print.)
        """
        J = self.interconnection
        constant = J.constant_over_layers or (J.is_inverse and self.shared and self.features % 2 == 0)
        return self.layers == 0 or (constant and J.skew and self.integrator.symplectic)

    @property
    def preserves_volume(self) -> bool:
        """Whether det M = 1 at every input, also where J varies by layer."""
        return self.layers == 0 or (self.interconnection.skew and self.integrator.symplectic)

    def forward(self, y: Tensor) -> Tensor:
        """The state after the last layer.

        Args:
            y: (..., n), or images (B, n, H, W). Under `torch.autocast` it is cast to the kind of number of the weights,
                in which the flow runs and answers.

        Returns:
            The shape of y.

        Raises:
            ValueError: if the features of y are not n.
        """
        if (type(y) is not Tensor or y.is_nested) and is_jagged(y):
            return over_rows(self, y)
        if autocasting(y.device.type):
            # A flow adds many small steps up, which half precision would round away.
            with torch.autocast(y.device.type, enabled=False):
                return self.forward(y.to(self.weight.dtype))
        check_state(y, self.features, self.kernel_size)
        plan = served(self.plan, self.backend, self.memory, y, self.weight)
        if plan is not None:
            return self._fused(plan, y)
        if self.layers:
            check_numbers(y, self.weight)
        return layer_by_layer(self.integrator, self.fields(), y, self.step, self.memory)

    def _fused(self, plan: Plan, y: Tensor) -> Tensor:
        twice = None if self.backend == "native" else partial(again, self)  # what is named never falls back
        if not native.wants_full_weights(plan):
            return native.run(plan, y, self.weight, self.bias, None, twice)
        K = self.K
        W = self.interconnection.drive(self._J(), K, self.hamiltonian.images) if plan.drive == "matrix" else None
        return native.run(plan, y, K, self.bias, W, twice)

    @read
    def trajectory(self, y: Tensor) -> Tensor:
        """The state before the first layer and after every layer.

        Args:
            y: (..., n), or images (B, n, H, W).

        Returns:
            (N + 1, ..., n) or (N + 1, B, n, H, W), y itself first.
        """
        states = [y]
        for field in self.fields():
            states.append(self.integrator.step(field, states[-1], self.step))
        return torch.stack(states)

    @read
    def inverse(self, y: Tensor) -> Tensor:
        """The input whose output is y, `inverse(flow(y0)) = y0`, up to rounding that grows with ‖M⁻¹‖.

        Args:
            y: (..., n), or images (B, n, H, W).

        Returns:
            The shape of y.

        Raises:
            ValueError: if the integrator has no explicit inverse.
        """
        for field in reversed(self.fields()):
            y = self.integrator.inverse(field, y, self.step)
        return y

    @read
    def energy(self, y: Tensor, layer: int = 0) -> Tensor:
        """The energy 1ᵀ σ̃(K y + b) of a state, with the weights of one layer.

        Args:
            y: (..., n), or images (B, n, H, W).
            layer: j, counted from 0; negative counts from the end. Shared weights give one H for all layers.

        Returns:
            (...) or (B,).
        """
        settings.check_layer(layer, self.layers)
        stored = 0 if self.shared else layer
        return self.hamiltonian.energy(self.K[stored], self.bias[stored], y)

    def fields(self) -> list[Field]:
        """The vector field of every layer, in order; bound as halves where the integrator moves halves."""
        halves = self.integrator.separable_only
        return self.hamiltonian.fields(self.K, self.bias, self._J(), self.layers, halves)

    def smoothness(self) -> tuple[Tensor, Tensor]:
        """How much neighbouring layers differ: R_K = (h/2) Σ ‖K_j − K_{j−1}‖_F², R_b = (h/2) Σ ‖b_j − b_{j−1}‖².

        Returns:
            (R_K, R_b), each summed once over j = 1 … N − 1; zero for shared weights.

        References:
            Galimberti, Xu, Ferrari-Trecate, L4DC 2021, section 3.3.
        """
        weight = self.weight
        squares = self.structure.squares(weight, self._indices.on(weight.device).weight)
        return (self.step / 2) * squares, (self.step / 2) * self.bias.diff(dim=0).square().sum()

    def __getitem__(self, layers: int | slice) -> Flow:
        """A flow of some of the layers, with copies of their weights: flow[a:](flow[:a](y)) = flow(y).

        Args:
            layers: a slice without stride, or one index for a flow of one layer.
        """
        return part(self, layers)

    def refine(self, factor: int = 2) -> Flow:
        """A flow of the same horizon in finer steps: the weights of the layers, interpolated over time.

        Layer j acts over [j h, (j + 1) h], and its weights stand for the middle of it. Between the middles they change
        linearly; before the first and after the last they are constant. As the ODE stays, so does what a trained flow
        does, up to the error O(h) of its steps: train few layers, refine, and train on.

        Args:
            factor: new layers for each old one, N becomes N · factor and h becomes h / factor.

        Returns:
            A flow with weights of its own.

        Raises:
            ValueError: if `factor` is not a whole number of at least 1.

        References:
            Haber, Ruthotto, Stable architectures for deep neural networks, Inverse Problems 34:014004, 2018
            (multi-level learning), https://arxiv.org/abs/1705.03341

        Example:
            >>> import hdnn
            >>> fine = hdnn.h1(4, layers=8, horizon=1.0).refine()
            >>> fine.layers, fine.step
            (16, 0.0625)
        """
        return refined(self, factor)

    def extra_repr(self) -> str:
        """The sizes and the four factors."""
        sizes = f"features={self.features}, layers={self.layers}, step={self.step:g}"
        sizes += f", kernel_size={self.kernel_size}" if self.kernel_size is not None else ""
        sizes += ", shared=True" if self.shared else ""
        sizes += f", memory={self.memory!r}" if self.memory is not None else ""
        return (
            f"{sizes},\nstructure={self.structure!r},\ninterconnection={self.interconnection!r},\n"
            f"activation={self.activation!r},\nintegrator={self.integrator!r}"
        )

    def _J(self) -> Tensor | None:
        J = self.interconnection_matrix
        if J is not None:
            # The weights may have been cast alone, by a policy of mixed precision.
            return self.interconnection.build(None, J.to(self.weight.dtype))
        free = self.interconnection_weight
        return self.interconnection.build(free, None if free is None else self._indices.on(free.device).interconnection)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(upgraded(restored(state)))  # type: ignore[no-untyped-call]
        self._choose(self.hamiltonian, self.integrator, self.backend, self.memory)  # a plan may have grown since

    def _apply(self, fn: Any, recurse: bool = True) -> Flow:
        before = self.weight.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight.dtype is not before:
            settings.warn_of_rounding(self.weight.dtype, self.step, self.layers)
        return self


def _after_loading(flow: Flow, _: object) -> None:
    settings.check_loaded(flow.interconnection_matrix, flow._constant_J(), flow.interconnection)
