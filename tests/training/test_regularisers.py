"""The regularisers in one step of autograd: values and gradients of their formulas, under whatever PyTorch does."""

import pytest
import torch
from torch.func import functional_call, grad, vmap

import hdnn
from hdnn.training import regularisers
from hdnn.training.regularisers import Term, terms_of, value_of, weighed

F64 = torch.float64


def terms(dtype=F64, requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    shapes = (((5, 2, 3), True), ((4, 3), False), ((1, 3), True), ((2,), True), ((3,), False))
    return [
        Term(0.3 + i, torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(requires_grad), between)
        for i, (shape, between) in enumerate(shapes)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_it_is_the_sum_of_squares_and_its_gradient(dtype):
    ours = terms(dtype)
    found, expected = weighed(ours), value_of(ours)
    assert found.dtype is dtype
    torch.testing.assert_close(found, expected)
    tensors = [term.x for term in ours]
    for g in (1.0, 3.0):
        torch.testing.assert_close(
            torch.autograd.grad(found * g, tensors, retain_graph=True),
            torch.autograd.grad(expected * g, tensors, retain_graph=True),
        )


def test_plain_calls_are_one_step_of_autograd():
    assert type(weighed(terms()).grad_fn).__name__ == "_WeighedBackward"


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # by which forward mode decomposes
def test_it_can_be_differentiated_twice_and_mapped():
    ours = terms()

    def of(*tensors):
        return weighed([term._replace(x=x) for term, x in zip(ours, tensors, strict=True)])

    tensors = [term.x for term in ours]
    assert torch.autograd.gradcheck(of, tensors)
    assert torch.autograd.gradcheck(of, tensors, check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of, tensors)


def test_what_is_frozen_gets_no_gradient():
    ours = terms()
    ours[1].x.requires_grad_(False)
    weighed(ours).backward()
    assert ours[1].x.grad is None
    torch.testing.assert_close(ours[4].x.grad, 2 * ours[4].factor * ours[4].x.detach())


@pytest.mark.parametrize("model", [hdnn.ms1, hdnn.ms2, hdnn.ms3, hdnn.h1, hdnn.h2])
@pytest.mark.parametrize("kernel_size", [None, 3])
def test_terms_of_a_flow_add_up_to_its_smoothness(model, kernel_size):
    flow = model(4, 5, step=0.3, kernel_size=kernel_size, dtype=F64)
    found, others = terms_of(flow, 0.7, 0.0)
    assert not others
    torch.testing.assert_close(value_of(found), 0.7 * sum(flow.smoothness()))


def test_what_measures_its_smoothness_itself_is_asked():
    class Rough(hdnn.Flow):
        def smoothness(self):
            return self.weight.sum(), self.bias.sum()

    flow = hdnn.h1(4, 5, step=0.3)
    rough = Rough(4, 5, step=0.3, structure=flow.structure, interconnection="canonical", integrator=flow.integrator)
    found, others = terms_of(torch.nn.Sequential(flow, rough), 0.7, 0.0)
    assert len(found) == 2
    torch.testing.assert_close(others, [0.7 * (rough.weight.sum() + rough.bias.sum())])


def test_a_structure_with_squares_of_its_own_is_asked():
    class Twice(hdnn.Dense):
        def squares(self, free, index):
            return 2 * super().squares(free, index)

    flow = hdnn.Flow(4, 5, step=0.3, structure=Twice(), interconnection="canonical", integrator="forward_euler")
    assert flow.structure.copies is None
    [other] = terms_of(flow, 1.0, 0.0)[1]
    torch.testing.assert_close(other, sum(flow.smoothness()))


def test_stacks_and_compilers_get_operations_of_pytorch():
    objective = hdnn.training.Objective(
        hdnn.vector_classifier(2, 2, hdnn.h1(4, 5, step=0.3, dtype=F64)), smoothness=0.3, head_decay=0.2
    )
    x, y = torch.randn(7, 2, dtype=F64), torch.randint(2, (7,))
    named = dict(objective.named_parameters())
    stacked = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in named.items()}

    def loss(parameters):
        return functional_call(objective, parameters, (x, y))[0]

    found = vmap(grad(loss))(stacked)
    loss(named).backward()
    for name, p in objective.named_parameters():
        torch.testing.assert_close(found[name][0], p.grad)


def test_where_nobody_can_tell_whether_a_transform_runs_operations_serve(monkeypatch):
    monkeypatch.setattr(regularisers, "_is_plain", lambda tensors: False)
    assert type(weighed(terms()).grad_fn).__name__ != "_WeighedBackward"
