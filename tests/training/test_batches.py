"""Batches of tensors: the rows of one order, cut one after the other, however many are gathered at a time."""

import pytest
import torch

from hdnn.training import batches
from hdnn.training.batches import Batch, Rows


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("together", [1, 100, 2**17])
@pytest.mark.parametrize("size", [1, 7, 40, 100])
def test_the_rows_of_an_order_come_once_and_in_its_batches(monkeypatch, size, together, weighed):
    monkeypatch.setattr(batches, "_TOGETHER", together)
    x, y = torch.randn(40, 3), torch.arange(40)
    data = Batch(x, y, torch.rand(40) if weighed else None)
    order = Rows(data, size, [torch.Generator().manual_seed(5)]).order()
    every = list(Rows(data, size, [torch.Generator().manual_seed(5)]).epoch())
    assert [len(batch.y) for batch in every] == [len(part) for part in torch.split(order, size)]
    for batch, rows in zip(every, torch.split(order, size), strict=True):
        assert torch.equal(batch.x, x[rows])
        assert torch.equal(batch.y, y[rows])
        assert (batch.weight is None) is not weighed
        assert batch.x.is_contiguous()
        assert batch.weight is None or torch.equal(batch.weight, data.weight[rows])


def test_a_loss_that_writes_to_its_batch_leaves_the_data_as_they_are():
    x, y = torch.randn(40, 3), torch.arange(40)
    before = x.clone()
    for batch in Rows(Batch(x, y), 7, [torch.Generator()]).epoch():
        batch.x.zero_()
        batch.y.zero_()
    assert torch.equal(x, before)
    assert torch.equal(y, torch.arange(40))
