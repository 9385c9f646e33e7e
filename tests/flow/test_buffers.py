"""What is state of a flow: averages, casts, empty starts, shards and old pickles find the weights where they were."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from families import F64, INDEXED, ONE_EACH, PRESETS, Factors, preset, state, tight
from hdnn.flow import Flow

GOLDEN = Path(__file__).parents[1] / "golden" / "flows-0.1.0.pt"


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
def test_an_average_over_buffers_of_a_model_that_never_changes_is_that_model(factors: Factors) -> None:
    flow = factors.flow(4, 3)
    average = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(5):
        average.update_parameters(flow)
    y = state(flow, 2)
    tight(average(y), flow(y))


@pytest.mark.parametrize("factors", ONE_EACH, ids=str)
def test_state_holds_decimal_numbers_alone(factors: Factors) -> None:
    flow = factors.flow(4, 3)
    assert {name for name, _ in flow.named_buffers()} <= {"interconnection_matrix"}
    assert all(value.is_floating_point() for value in [*flow.parameters(), *flow.buffers()])


@contextmanager
def empty_weights() -> Iterator[None]:
    """Parameters go to the meta device as they are registered and buffers stay, as in accelerate."""
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.to("meta"))

    nn.Module.register_parameter = registered  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@pytest.mark.parametrize("factors", INDEXED, ids=str)
def test_weights_set_one_by_one_into_an_empty_flow(factors: Factors) -> None:
    flow = factors.flow(4, 3)
    with empty_weights():
        empty = Flow(
            4,
            3,
            step=0.1,
            structure=flow.structure,
            interconnection=flow.interconnection,
            integrator=flow.integrator,
            dtype=F64,
        )
    assert empty.weight.is_meta
    for name, value in flow.state_dict().items():
        if name in empty._parameters:
            empty._parameters[name] = nn.Parameter(value.clone())
        else:
            empty._buffers[name] = value.clone()
    y = state(flow, 2)
    assert torch.equal(empty(y), flow(y))


@pytest.fixture
def mesh() -> Iterator[object]:
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of collectives on the CPU
def test_shards_start_empty_and_run_in_half_precision(mesh: object) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    for factors in INDEXED:
        plain = factors.flow(4, 3, dtype=torch.float32)
        y = state(plain, 2).float()
        sharded = copy.deepcopy(plain).to("meta")
        fully_shard(sharded, mesh=mesh)
        sharded.to_empty(device="cpu")
        sharded.reset_parameters()
        assert sharded(y).isfinite().all()
        half = copy.deepcopy(plain)
        fully_shard(half, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
        found = half(y)
        assert found.dtype is torch.bfloat16
        torch.testing.assert_close(found.float(), plain(y), rtol=0.1, atol=0.1)


def test_copies_share_the_indices_and_pickles_leave_them_out() -> None:
    flow = preset("ms2", features=64, layers=1)
    assert copy.deepcopy(flow)._indices is flow._indices
    assert len(pickle.dumps(flow)) < 40_000  # the index alone takes 32,768 bytes
    y = state(flow, 2)
    assert torch.equal(pickle.loads(pickle.dumps(flow))(y), flow(y))


def test_a_copy_for_another_device_is_kept_unless_it_is_a_stand_in() -> None:
    flow = preset("ms2")
    flow.to("meta")
    assert flow.K.is_meta
    assert list(flow._indices._on) == [torch.device("cpu")]


@pytest.mark.parametrize("name", ["ms2", "masked", "learned", "h2", "images"])
def test_flows_pickled_by_hdnn_0_1_0(name: str) -> None:
    flow, y, expected = torch.load(GOLDEN, weights_only=False)[name]
    tight(flow(y), expected)
    assert not [buffer for buffer, _ in flow.named_buffers() if buffer.endswith("index")]
    again = pickle.loads(pickle.dumps(copy.deepcopy(flow)))
    tight(again(y), expected)
    tight(flow[1:](flow[:1](y)), expected)
    assert repr(again) == repr(flow)


@pytest.mark.parametrize("name", PRESETS)
def test_ensembles_on_a_copy_without_numbers(name: str) -> None:
    flows = [preset(name, seed=seed) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(flows)  # type: ignore[arg-type]
    empty, y = copy.deepcopy(flows[0]).to("meta"), state(flows[0], 5)

    def call(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(empty, (p, b), (y,))  # type: ignore[no-any-return]

    tight(torch.vmap(call)(parameters, buffers), torch.stack([flow(y) for flow in flows]))


@pytest.mark.filterwarnings("ignore")  # PyTorch's own: torch.jit is deprecated, and tracing meets the check of shapes
@pytest.mark.parametrize("memory", [None, "recompute", "reverse"])
@pytest.mark.parametrize("name", PRESETS)
def test_traced_flows_are_saved_and_loaded(name: str, memory: str | None) -> None:
    if memory == "reverse" and name in ("h1", "ms2"):
        return
    flow = preset(name, memory=memory)
    y = state(flow, 2)
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(flow, y, check_trace=False), stream)  # type: ignore[no-untyped-call]
    stream.seek(0)
    other = state(flow, 5, seed=8)
    tight(torch.jit.load(stream)(other), flow(other))  # type: ignore[no-untyped-call]
