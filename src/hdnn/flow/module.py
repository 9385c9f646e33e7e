"""The flow: N integration steps of y' = J ∂H/∂y as one PyTorch module.

Legend: N layers, n features, m hidden units, h step, T = N h horizon, K_j and b_j the weights of layer j = 0 … N − 1,
y_j the state before it (y_0 the input, y_N the output); M = ∂y_N/∂y_0 its Jacobian.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hdnn.activations import Activation, activation_of, tanh
from hdnn.arguments import truth
from hdnn.damping import slots
from hdnn.energies import Energy
from hdnn.entries import Slot
from hdnn.flow import parameters, promises, settings
from hdnn.flow.attributes import SETTINGS, assigned, built, constant, described, promise, restored, setting, turning
from hdnn.flow.beside import Beside, adopt, beside, checked_energy, width_of_ports
from hdnn.flow.depth import part, refined
from hdnn.flow.indices import Indices, Places, upgraded
from hdnn.flow.inputs import bound, more, of_layer, ported
from hdnn.flow.layers import layers_of
from hdnn.flow.memory import Memory, all_states
from hdnn.flow.plans import make_plan, plan_of_call
from hdnn.flow.states import check_numbers, in_full, is_jagged, over_rows, read
from hdnn.hamiltonian import Field, Hamiltonian
from hdnn.integrators import Integrator, integrator_of
from hdnn.interconnections import Interconnection, interconnection_of
from hdnn.kernels import backend as contract
from hdnn.kernels.choice import check_backend, chosen
from hdnn.kernels.operators import run
from hdnn.kernels.transforms import autocasting
from hdnn.spaces import Space, space_of
from hdnn.structures import Dense, Structure, structure_of

Backend = Literal["auto", "eager", "native", "triton"] | contract.Backend


class Flow(nn.Module):
    r"""A Hamiltonian network: N steps of an integrator along y' = J Kᵀ σ(K y + b), each step with its own K and b.

    The page *The general equation* tells what else y' = S ∂H/∂y + G u has: energies of one's own, dissipation, ports.

    Maps a state to a state of the same shape: vectors (..., n), or what `space` says. Parameters are `weight`
    (N, \*free shape of the structure), `bias` (N, m), `input_weight` (N, m, d) where inputs drive it, `damping_weight`
    where damping is learned and, for a learned J, `interconnection_weight`; a constant J is the buffer
    `interconnection_matrix`.

    Args:
        features: n, the size of the state.
        layers: N; 0 gives the identity. None, for shared driven flows: as many as the inputs of a call have entries.
        step: h, the integration step. Give exactly one of `step` and `horizon`.
        horizon: T = N h.
        structure: which entries of K are free; None, with an `energy`, for no hidden units at all.
        interconnection: which J; also "canonical", "upper_ones" or a skew tensor (n, n), which become `Fixed`.
        activation: σ; also by name, as "relu". (Factors without arguments may be given by their class.)
        integrator: how a step is taken.
        space: what a state is: `Vectors()`, `Images(kernel_size)`, `Signals(kernel_size)`, `Graph()`.
        kernel_size: k, short for `space=Images(k)`.
        inputs: d, numbers that drive every step, y' = J Kᵀ σ(K y + b + V u): the calls then take `inputs=u`.
        energy: E(y, t), an `Energy` that H has beside the units; the flow takes the module, to its device and dtype.
        unit_weights: a > 0 of H = aᵀ σ̃(K y + b), a number or (m,); 1 where None.
        learn_unit_weights: make a = g² a parameter of every layer, `unit_weight`, which starts there.
        ports: G of y' = … + G u, (n, d), or d for a learned one, `port_weight`; the calls then take `ports=u`.
        shared: one K and b for all layers (the time-invariant network).
        backend: "eager" runs layer by layer in PyTorch; "native" runs all layers in one compiled call, on the CPU,
            and stores nothing per layer; "triton" does so in one launch on a CUDA device; "auto" takes the one that is
            there, serves the call and should be faster. One of your own, a `Backend`, may be given itself.
        memory: what the eager path keeps for the backward pass. "store" keeps every layer, as does None, by
            which many steps go back along gradients written by hand, the same but for rounding and faster, and flows on
            graphs run in one compiled call where `backend` is "auto"; "recompute"
            about √N states, for one more forward pass; "reverse" two states at any depth, for two more, where the step
            has an inverse, explicit or by a solve: it undoes the layers from the output. That costs few digits at small
            steps (with N(0, 1/n) weights, tanh, h = 0.05 and 1024 layers, relative errors of gradients reach 5e-6 in
            float32, where those of "store" reach 4e-6, and 7e-15 in float64), but rounding grows with ‖M⁻¹‖, and a
            backward pass that misses the input by more than 1e-3 raises. Native keeps no layer whatever is named;
            so "store" takes the eager path under "auto", and the others take native where it serves.
        init_std: standard deviation of the initial K and b (1.0 is the papers' choice). None means 1/√n for b and
            1/√(n taps) for K (k² taps of images, 1 of vectors); less where K has more rows than columns, so that h ‖K‖²
            is the same.
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
    input_weight: nn.Parameter | None
    interconnection_weight: nn.Parameter | None
    damping_weight: nn.Parameter | None
    unit_weight: nn.Parameter | None
    fixed_unit_weight: Tensor
    port_weight: Tensor
    _beside: Beside = Beside()  # as in pickles of earlier versions
    _start: float = 0.0  # the time of the first layer
    interconnection_matrix: Tensor | None
    damping: float = promise(promises.damping)
    preserves_structure: bool = promise(promises.preserves_structure)
    scales_structure: bool = promise(promises.scales_structure)
    preserves_volume: bool = promise(promises.preserves_volume)
    features: int = constant("features", "n, the size of the state.", of_equation=True)
    layers: int = constant("layers", "N; an error where the inputs of a call say it.", read=settings.known_layers)
    step: float = constant("step", "h.")
    shared: bool = constant("shared", "Whether all layers have one K and b.")
    structure: Structure = constant("structure", "Which entries of K are free.", of_equation=True)
    interconnection: Interconnection = constant("interconnection", "Which J.", of_equation=True)
    space: Space = constant("space", "What a state is.", of_equation=True)
    kernel_size: int | None = constant("kernel_size", "k of a convolution, or None.", of_equation=True)
    inputs: int | None = constant("inputs", "d, numbers that drive every step; None where nothing does.")
    ports: int | None = promise(width_of_ports)
    K: Tensor = promise(built)
    J: Tensor = promise(turning)
    activation: Activation = setting("activation", "σ.", of_equation=True)
    integrator: Integrator = setting("integrator", "How a step is taken.")
    backend: Backend = setting("backend", "What runs the layers.")
    memory: Memory | None = setting("memory", "What the eager path keeps for the backward pass.")
    init_std: float | None = setting("init_std", "Standard deviation of the initial weights and biases, if given.")
    __setattr__ = assigned

    def __init__(
        self,
        features: int,
        layers: int | None = None,
        *,
        step: float | None = None,
        horizon: float | None = None,
        structure: Structure | type[Structure] | None = None,
        interconnection: Interconnection | type[Interconnection] | Tensor | str,
        activation: Activation | type[Activation] | str = tanh,
        integrator: Integrator | type[Integrator] | str,
        space: Space | type[Space] | None = None,
        kernel_size: int | None = None,
        inputs: int | None = None,
        energy: Energy | None = None,
        unit_weights: Tensor | float | None = None,
        learn_unit_weights: bool = False,
        ports: Tensor | int | None = None,
        shared: bool = False,
        backend: Backend = "auto",
        memory: Memory | None = None,
        init_std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._shared = truth("shared", shared)
        features, self._layers = settings.checked_sizes(features, layers, inputs, shared)
        self._inputs = inputs
        self._step = settings.step_size(layers, step, horizon)
        self._init_std = settings.checked_deviation(init_std)
        dtype, space = settings.floating_point(dtype), space_of(space, kernel_size)
        structure = Dense(0) if structure is None and energy is not None else structure_of(structure)  # type: ignore[arg-type]
        stored = 1 if shared else layers or 0
        settings.check_room(structure, features, space, layers or 1, stored, dtype, device)
        interconnection = interconnection_of(interconnection, features)
        own = checked_energy(energy, device, dtype)
        hamiltonian = Hamiltonian(features, structure, interconnection, activation_of(activation), space, own)
        self._beside = beside(unit_weights, learn_unit_weights, ports, hamiltonian)
        adopt(self, hamiltonian, device, dtype)
        self._choose(hamiltonian, integrator_of(integrator), backend, memory)
        parameters.register(self, self._slots(), device, dtype)
        settings.check_damping(self, self.integrator, memory)
        self._indices = Indices(self.hamiltonian, self._layers)
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]
        self.reset_parameters()
        settings.warn_of_rounding(dtype, self.step, self._layers)

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
        settings.check_directed(integrator, hamiltonian, hamiltonian.space)
        driven = self._inputs is not None
        plan = make_plan(hamiltonian, integrator, self.step, self._layers or 0, self.shared, driven)
        plan = None if self._beside else plan
        settings.check_memory(memory, integrator, hamiltonian)
        check_backend(backend, plan, memory == "store")
        settings.check_damping(self, integrator, memory)
        self.hamiltonian, self._integrator, self.plan = hamiltonian, integrator, plan
        self._backend, self._memory = backend, memory

    def reset_parameters(self) -> None:
        """Draw K and b anew, as `init_std` says, and put J back to its start.

        Raises:
            RuntimeError: if a hook computes them from others, which cannot be told what to give.
        """
        parameters.fill(self, self._slots())

    def _slots(self) -> dict[str, Slot]:
        stored = 1 if self.shared or self._layers is None else self._layers
        of_equation = self.hamiltonian.slots(self._layers or 0, stored, self._inputs, self.init_std)
        of_steps = slots(self.integrator.damping, self.integrator.learn_damping)
        return of_equation | of_steps | self._beside.slots(self.features, stored)

    @property
    def recurrent(self) -> bool:
        """Whether the inputs of a call say how many steps it takes."""
        return self._layers is None

    @property
    def horizon(self) -> float:
        """T = N h."""
        return self.layers * self.step

    def places(self, device: torch.device) -> Places:
        """Where the free numbers stand in K and J, on a device."""
        return self._indices.on(device)

    def forward(self, y: Tensor, *, inputs: Tensor | None = None, **call: Any) -> Tensor:
        """The state after the last layer.

        Args:
            y: (..., n), or what the space says. Under `torch.autocast` it is cast to the kind of number of the weights,
                in which the flow runs and answers.
            inputs: u, (N, ..., d), one entry a step, of a flow made with `inputs=d`.
            **call: what the factors ask for: `edge_index` (2, E) and `edge_weight` (E,) of a `Graph()`, and
                `ports` u (N, ..., d) of a flow made with `ports=`.

        Returns:
            The shape of y.

        Raises:
            ValueError: if the features of y are not n, or inputs or edges are missing or do not fit.
            TypeError: if the call brings what this flow does not know.
        """
        if (type(y) is not Tensor or y.is_nested) and is_jagged(y):
            return over_rows(self, y, {"inputs": inputs, **call})
        if autocasting(y.device.type):
            # A flow adds many small steps up, which half precision would round away.
            with torch.autocast(y.device.type, enabled=False):
                return self.forward(**in_full(self.weight, y=y, inputs=inputs, **call))
        self.hamiltonian.space.check(y, self.hamiltonian.features)
        weight, plan = self.weight, self.plan if self._inputs is None else plan_of_call(self, inputs)
        backend = chosen(self._backend, plan, y, weight, self._memory == "store")
        if not backend.fused and self._layers != 0:
            check_numbers(y, weight)
        return run(backend, plan, y, layers_of(self, backend, plan, weight, y, inputs, call))

    @read
    def trajectory(self, y: Tensor, *, inputs: Tensor | None = None, **call: Any) -> Tensor:
        """The state before the first layer and after every layer.

        Arguments are those of `forward`; (N + 1, *shape of y) comes back, y itself first.
        """
        weight, plan = self.weight, plan_of_call(self, inputs, states=True)
        if plan is not None and plan.driven and plan.layers:
            backend = chosen(self._backend, plan, y, weight, self._memory == "store")
            if backend.fused:
                return run(backend, plan, y, layers_of(self, backend, plan, weight, y, inputs, call))
        return all_states(self.integrator, self.fields(y, inputs=inputs, **call), y, self.step)

    @read
    def inverse(self, y: Tensor, *, inputs: Tensor | None = None, **call: Any) -> Tensor:
        """The input whose output is y, `inverse(flow(y0)) = y0`, up to rounding that grows with ‖M⁻¹‖.

        Arguments are those of `forward`, and so is the shape that comes back.

        Raises:
            ValueError: if the integrator has no explicit inverse.
        """
        for field in reversed(self.fields(y, inputs=inputs, **call)):
            y = self.integrator.inverse(field, y, self.step)
        return y

    @read
    def energy(self, y: Tensor, layer: int = 0, *, inputs: Tensor | None = None, **call: Any) -> Tensor:
        """The energy aᵀ σ̃(K y + b) + E of a state, with the weights of one layer; of b + V u where inputs drive it.

        Args:
            y: as for `forward`.
            layer: j, counted from 0; negative counts from the end. Shared weights give one H for all layers.
            inputs: as for `forward`: u of all steps.
            **call: as for `forward`.

        Returns:
            One number a sample.
        """
        return self.hamiltonian.energy(*of_layer(self, y, layer, inputs, call))

    @read
    def port(self, y: Tensor, layer: int = 0, *, inputs: Tensor | None = None, **call: Any) -> Tensor:
        """Gᵀ ∂H/∂y (..., d), what leaves by the ports: the power that they feed in is ⟨Gᵀ ∂H/∂y, u⟩.

        Arguments are those of `energy`.
        """
        gradient = self.hamiltonian.gradient(*of_layer(self, y, layer, inputs, call))
        if self.ports is None:
            raise ValueError("This flow has no ports; make it with `ports=d`, or with a matrix G (n, d).")
        return torch.matmul(gradient.movedim(self.space.axis, -1), self.port_weight)

    def fields(self, y: Tensor | None = None, *, inputs: Tensor | None = None, **call: Any) -> list[Field]:
        """The vector field of every layer, in order; bound as halves where the integrator moves halves.

        Args:
            y: the state that the call is about; needed where it brings edges.
            inputs: as for `forward`, like all that the call brings.
            **call: as for `forward`.
        """
        space, b = bound(self, y, inputs, call)
        layers = len(b) if self._layers is None else self._layers
        extra = more(self, ported(self, call.get("ports"), y))
        return self.hamiltonian.fields(self.K, b, self._J(), layers, self.integrator.separable_only, space, extra)

    def smoothness(self) -> tuple[Tensor, Tensor]:
        """How much neighbouring layers differ: R_K = (h/2) Σ ‖K_j − K_{j−1}‖_F², R_b = (h/2) Σ ‖b_j − b_{j−1}‖².

        Each is summed once over j = 1 … N − 1; zero for shared weights (L4DC 2021, section 3.3).
        """
        parameters.refresh(self)
        weight = self.weight
        squares = self.structure.squares(weight, self.places(weight.device).weight)
        return (self.step / 2) * squares, (self.step / 2) * self.bias.diff(dim=0).square().sum()

    def __getitem__(self, layers: int | slice) -> Flow:
        """A flow of some layers, a slice or one, with copies of their weights: flow[a:](flow[:a](y)) = flow(y)."""
        return part(self, layers)

    def refine(self, factor: int = 2) -> Flow:
        """A flow of the same horizon in finer steps: the weights of the layers, interpolated over time.

        Layer j acts over [j h, (j + 1) h], and its weights stand for the middle of it; between the middles they change
        linearly. As the ODE stays, so does what a trained flow does, up to the error O(h) of its steps: train few
        layers, refine, and train on.

        Args:
            factor: new layers for each old one, N becomes N · factor and h becomes h / factor.

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
        """The sizes and the factors."""
        return described(self)

    def _J(self) -> Tensor | None:
        J = self.interconnection_matrix
        if J is not None:
            # The weights may have been cast alone, by a policy of mixed precision.
            return self.interconnection.build(None, J.to(self.weight.dtype))
        free = self.interconnection_weight
        return self.interconnection.build(free, None if free is None else self.places(free.device).interconnection)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(upgraded(restored(state)))  # type: ignore[no-untyped-call]
        self._choose(self.hamiltonian, self.integrator, self.backend, self.memory)  # a plan may have grown since

    def _apply(self, fn: Any, recurse: bool = True) -> Flow:
        before = self.weight.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight.dtype is not before:
            settings.warn_of_rounding(self.weight.dtype, self.step, self._layers)
        return self


def _after_loading(flow: Flow, _: object) -> None:
    settings.check_loaded(flow.interconnection_matrix, flow._slots(), flow.interconnection)
