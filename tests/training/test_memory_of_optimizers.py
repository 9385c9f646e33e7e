"""What an optimizer remembers can be taken out and given to another of its kind, whatever the kind."""

import pytest
import torch
from torch import nn

from hdnn.training.optimizers import SGD, Adam, AdamW
from hdnn.training.state import memory, remember

KINDS = {
    "our Adam": lambda p: Adam(p, lr=0.1),
    "our AdamW": lambda p: AdamW(p, lr=0.1, weight_decay=0.1),
    "our SGD": lambda p: SGD(p, lr=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "SGD without momentum": lambda p: torch.optim.SGD(p, lr=0.1),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, line_search_fn="strong_wolfe"),
    "LBFGS, plain": lambda p: torch.optim.LBFGS(p, lr=0.1, history_size=3),
}


def parameters():
    start = torch.linspace(-1, 2, 8)
    return [nn.Parameter(start[:6].reshape(2, 3).clone()), nn.Parameter(start[6:].clone())]


def steps(optimizer, own, count):
    def closure():
        optimizer.zero_grad()
        loss = sum((p**4 / 10 - p).sum() for p in own) + own[0].sum() * own[1].sum() / 10
        loss.backward()
        return loss

    for _ in range(count):
        closure()
        optimizer.step(closure)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_another_of_its_kind_goes_on_to_the_bit(kind, count):
    first, second = parameters(), parameters()
    optimizer, other = KINDS[kind](first), KINDS[kind](second)
    steps(optimizer, first, count)
    for p, value in zip(second, first, strict=True):
        p.data.copy_(value)
    remember(other, memory(optimizer))
    steps(optimizer, first, 3)
    steps(other, second, 3)
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(kind):
    own = parameters()
    optimizer = KINDS[kind](own)
    steps(optimizer, own, 5)
    kept = memory(optimizer)
    for name, value in kept.items():
        if isinstance(value, torch.Tensor) and value.dim():
            with pytest.raises(ValueError, match="training state"):
                remember(KINDS[kind](parameters()), {**kept, name: value[..., :-1]})
            with pytest.raises(ValueError, match="training state"):
                remember(KINDS[kind](parameters()), {**kept, name: 1.0})
        missing = {other: given for other, given in kept.items() if other != name}
        if missing and len(kept) > 2 and not name.partition(".")[2].startswith(("old_", "ro")):
            with pytest.raises(ValueError, match="lacks"):
                remember(KINDS[kind](parameters()), missing)
    with pytest.raises(ValueError, match="remembers nothing called"):
        remember(KINDS[kind](parameters()), {**kept, "0.of_another_kind": own[0].detach()})
    with pytest.raises(ValueError, match="remembers nothing called"):
        remember(KINDS[kind](parameters()), {**kept, "9.step": torch.tensor(1.0)})
