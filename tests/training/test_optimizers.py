"""Our optimizers move parameters as those of PyTorch do, to the bit, and cost no compiler."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from hdnn.training import optimizers
from hdnn.training.optimizers import optimizer_of
from hdnn.training.recipe import Recipe, make_optimizer
from hdnn.training.state import memory, remember

THEIRS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01, momentum=0.9),
}
SHAPES = ((5, 4, 4), (33,), (1, 4), ())


def parameters(dtype, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def give(own, generator, missing=()):
    """Gradients, the same for all."""
    shapes = [p.shape for p in own[0]]
    for i, shape in enumerate(shapes):
        g = 3 * torch.randn(shape, generator=generator, dtype=own[0][0].dtype)
        for each in own:
            each[i].grad = None if i in missing else g.clone()


def assert_same(optimizer, other, own, others):
    assert all(torch.equal(p, q) for p, q in zip(own, others, strict=True))
    ours, theirs = memory(optimizer), memory(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", THEIRS)
def test_the_bits_are_those_of_pytorch_also_where_gradients_are_missing_at_times(kind, dtype):
    own, others = parameters(dtype), parameters(dtype)
    optimizer, other = optimizer_of(kind, own, lr=0.1, weight_decay=0.01), THEIRS[kind](others)
    assert isinstance(optimizer, optimizers.Optimizer)
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        give((own, others), generator, missing={step % 5, 3} if step < 8 else {step % 5})
        for each in (optimizer, other):
            each.param_groups[0]["lr"] = 0.1 / (step + 1)
            each.step()
        assert_same(optimizer, other, own, others)


@pytest.mark.parametrize("kind", THEIRS)
def test_each_goes_on_where_the_other_stood(kind):
    own, others = parameters(torch.float64), parameters(torch.float64)
    optimizer, other = optimizer_of(kind, own, lr=0.1, weight_decay=0.01), THEIRS[kind](others)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        give((own, others), generator)
        optimizer.step()
        other.step()
    optimizer_now, other_now = optimizer_of(kind, own, lr=0.1, weight_decay=0.01), THEIRS[kind](others)
    remember(optimizer_now, memory(other))
    remember(other_now, memory(optimizer))
    give((own, others), generator)
    optimizer_now.step()
    other_now.step()
    assert_same(optimizer_now, other_now, own, others)


def test_what_is_remembered_is_a_copy():
    own = parameters(torch.float64)
    optimizer = optimizer_of("adam", own, lr=0.1)
    give((own,), torch.Generator().manual_seed(1))
    optimizer.step()
    kept = memory(optimizer)
    other = optimizer_of("adam", own, lr=0.1)
    remember(other, kept)
    before = copy.deepcopy(kept)
    other.step()
    assert all(torch.equal(kept[name], before[name]) for name in kept)


@pytest.mark.parametrize(
    "odd",
    [
        [nn.Parameter(torch.ones(2, dtype=torch.bfloat16))],
        [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))],
        [nn.Parameter(torch.ones(2, device="meta"))],
        [type("Special", (nn.Parameter,), {})(torch.ones(2))],
    ],
    ids=["half", "of two kinds", "without memory", "special"],
)
@pytest.mark.parametrize("kind", THEIRS)
def test_other_parameters_get_the_optimizer_of_pytorch(kind, odd):
    theirs = THEIRS[kind](odd)
    found = optimizer_of(kind, odd, lr=0.1, weight_decay=0.01)
    assert type(found) is type(theirs)
    assert found.defaults == theirs.defaults


@pytest.mark.parametrize("kind", THEIRS)
def test_where_pytorch_has_renamed_its_kernels_its_optimizers_serve(kind, monkeypatch):
    for name in optimizers.KINDS[kind].kernels:
        monkeypatch.delattr(torch, name)
    assert type(optimizer_of(kind, parameters(torch.float32), lr=0.1)) is type(THEIRS[kind](parameters(torch.float32)))


def test_sparse_gradients_are_followed_by_sgd_and_refused_by_adam():
    tables = [nn.Embedding(5, 3, sparse=True), nn.Embedding(5, 3)]
    tables[1].load_state_dict(tables[0].state_dict())
    each = [[table.weight, nn.Parameter(torch.ones(2))] for table in tables]
    ours = [make_optimizer(Recipe(optimizer="sgd"), own) for own in each]
    for _ in range(3):
        for optimizer, table, own in zip(ours, tables, each, strict=True):
            optimizer.zero_grad()
            (table(torch.tensor([1, 3])).square().sum() + own[1].sum()).backward()
            optimizer.step()
    torch.testing.assert_close(tables[0].weight, tables[1].weight)
    with pytest.raises(RuntimeError, match="sparse=False"):
        make_optimizer(Recipe(), each[0]).step()


@pytest.mark.parametrize("largest", [0.5, 1e9])
@pytest.mark.parametrize("special", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_has_the_bits_of_pytorch(largest, special, dtype):
    own, others = parameters(dtype), parameters(dtype)
    give((own, others), torch.Generator().manual_seed(1), missing={2})
    if special is not None:
        own[1].grad[0] = others[1].grad[0] = special
    optimizers.clip(own, largest)
    nn.utils.clip_grad_norm_(others, largest)
    assert own[2].grad is None
    for p, q in zip(own, others, strict=True):
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=0, equal_nan=True)


def test_gradients_of_any_kind_are_clipped():
    own = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))]
    optimizers.clip(own, 1.0)
    for p in own:
        p.grad = torch.full_like(p, 3.0)
    optimizers.clip(own, 1.0)
    assert sum(float(p.grad.square().sum()) for p in own) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("optimizer", THEIRS)
def test_training_imports_no_compiler(optimizer):
    program = f"""
import sys, torch, hdnn
network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=4, step=0.1))
recipe = hdnn.Recipe(epochs=2, optimizer={optimizer!r}, smoothness=1e-3, head_decay=1e-3, clip=1.0)
states = []
callback = lambda progress: states.append(progress.state())
x, y = torch.randn(250, 2), torch.randint(2, (250,))
penalties = [(1e-3, lambda network: network.flow.bias.square().sum())]
hdnn.fit(network, x, y, recipe, penalties=penalties, callbacks=[callback])
hdnn.fit(network, x, y, recipe, penalties=penalties, resume=states[1])
assert "torch._dynamo" not in sys.modules, "PyTorch's compiler was imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True)
