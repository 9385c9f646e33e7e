"""Training on graphs: batches of them from a loader, one of them as tensors."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import hdnn
from hdnn.training import Recipe, evaluate, fit, outputs

F64 = torch.float64
PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
SHORT = Recipe(epochs=3, learning_rate=0.01, schedule="constant")


class Reader(nn.Module):
    """The mean of the nodes of every graph of a batch, in the layout of PyTorch Geometric."""

    def __init__(self, *, pooled=True):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.flow = hdnn.h2(4, layers=3, step=0.1, space=hdnn.Graph(), dtype=F64)
            self.out = nn.Linear(4, 2, dtype=F64)
        self.pooled = pooled

    def forward(self, x, edge_index, chosen, count=None):
        y = self.out(self.flow(x, edge_index=edge_index))
        if not self.pooled:
            return y[chosen]
        graphs = int(chosen.max()) + 1 if count is None else int(count)
        return y.new_zeros(graphs, 2).index_add(0, chosen, y) / chosen.bincount()[:, None]


def graphs(number, seed):
    """A batch: paths of three nodes, their edges counted on, the graph of every node."""
    x = torch.randn(3 * number, 4, generator=torch.Generator().manual_seed(seed), dtype=F64)
    edges = torch.cat([PATH + 3 * i for i in range(number)], dim=1)
    owner = torch.arange(number).repeat_interleave(3)
    return (x, edges, owner), (x.reshape(number, -1).sum(1) > 0).long()


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def plain(model, batches, loss):
    optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=True)
    for _ in range(3):
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(*x), y).backward()
            optimizer.step()
    return weights(model)


def test_batches_of_graphs_train_as_in_a_plain_loop():
    batches = [graphs(5, seed=0), graphs(2, seed=1)]
    model = Reader()
    score = {"accuracy": lambda output, y: (output.argmax(-1) == y).double().mean()}
    history = fit(model, batches, recipe=SHORT, loss=cross_entropy, validation=batches[1:], score=score)
    assert torch.equal(weights(model), plain(Reader(), batches, cross_entropy))
    assert 0 <= history[-1]["train_accuracy"] <= 1
    told = [cross_entropy(model(*x), y).item() for x, y in batches]
    assert evaluate(model, batches, loss=cross_entropy)["loss"] == pytest.approx((5 * told[0] + 2 * told[1]) / 7)


def test_graphs_may_have_weights_and_inputs_without_axes():
    (x, edges, owner), y = graphs(4, seed=0)
    counted, named = [((x, edges, owner, torch.tensor(4)), y)], {"x": x, "edge_index": edges, "chosen": owner}
    one, two = Reader(), Reader()
    fit(one, counted, recipe=SHORT, loss=cross_entropy)
    fit(two, [(named, y)], recipe=SHORT, loss=cross_entropy)
    assert torch.equal(weights(one), weights(two))
    first = torch.tensor([1.0, 0, 0, 0])
    fit(one := Reader(), [((x, edges, owner), y, first)], recipe=SHORT, loss=nn.CrossEntropyLoss(reduction="none"))
    fit(two := Reader(), [((x[:3], PATH, owner[:3]), y[:1])], recipe=SHORT, loss=cross_entropy)
    torch.testing.assert_close(weights(one), weights(two))


def test_targets_may_be_of_some_nodes_alone():
    (x, edges, _), _ = graphs(4, seed=0)
    mask = torch.arange(12) % 2 == 0
    batches = [((x, edges, mask), x[mask, :2])]
    model = Reader(pooled=False)
    fit(model, batches, recipe=SHORT, loss=mse_loss)
    assert torch.equal(weights(model), plain(Reader(pooled=False), batches, mse_loss))


def test_outputs_of_a_graph_are_those_of_all_its_nodes():
    nodes = 5000  # more than a part of many samples
    x = torch.randn(nodes, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    edges = torch.stack((torch.arange(nodes - 1), torch.arange(1, nodes)))
    owner = torch.zeros(nodes, dtype=torch.int64)
    model = Reader()
    with torch.no_grad():
        assert torch.equal(outputs(model, (x, edges, owner)), model(x, edges, owner))


def test_a_node_that_is_no_number_is_found():
    (x, edges, owner), y = graphs(4, seed=0)
    x[7] = torch.nan
    with pytest.raises(FloatingPointError, match="inputs of sample 7 of the batch"):
        fit(Reader(), [((x, edges, owner), y)], recipe=SHORT, loss=cross_entropy)


def test_tensors_of_unlike_lengths_are_told_of_loaders():
    (x, edges, owner), y = graphs(4, seed=0)
    with pytest.raises(ValueError, match=r"got 12, 2, 12 and 4\..*give a loader of batches, `\[\(x, y\)\]`"):
        fit(Reader(), (x, edges, owner), y, SHORT, cross_entropy)
    with pytest.raises(ValueError, match="got 4, no length and 4"):
        fit(Reader(), (x[:4], torch.tensor(3)), y, SHORT, cross_entropy)
    with pytest.raises(ValueError, match="got 12 and no length"):
        fit(Reader(), x, y[0], SHORT, cross_entropy)


# One graph, whose nodes are rows

RING = torch.stack((torch.arange(12), torch.arange(1, 13) % 12))
NODES = torch.randn(12, 4, generator=torch.Generator().manual_seed(2), dtype=F64)
OF_NODES = (NODES[:, 0] > 0).long()


class Nodes(nn.Module):
    """Two numbers of every node."""

    def __init__(self, space=None, first=None):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.lift = nn.Linear(4, 4, dtype=F64) if first is None else first
            self.flow = hdnn.h2(4, layers=3, step=0.1, space=space or hdnn.Graph(), dtype=F64)
            self.out = nn.Linear(4, 2, dtype=F64)

    def forward(self, x, **call):
        return self.out(self.flow(self.lift(x), **call))


class AtPlaces(nn.Module):
    """Adds what it has learned of every node."""

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.arange(48, dtype=F64).reshape(12, 4) / 48)

    def forward(self, x):
        return x + self.own


@pytest.mark.parametrize(
    ("model", "call", "rows"),
    [
        (Nodes(), {"edge_index": RING}, 12),
        (Nodes(), {"edge_index": RING}, 5),
        (Nodes(hdnn.Graph(RING)), None, 12),
        (Nodes(hdnn.Graph(RING)), None, 5),
        (Nodes(first=AtPlaces()), {"edge_index": RING}, 12),
        (Nodes(first=nn.BatchNorm1d(4, dtype=F64)), {"edge_index": RING}, 12),
    ],
)
def test_nodes_are_not_drawn_as_samples(model, call, rows):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = Recipe(epochs=1, batch_size=rows)
    with pytest.raises(ValueError, match=r"not samples but the nodes of one graph.*fit\(model, \[\(x, y\)\]"):
        fit(model, NODES, OF_NODES, recipe, cross_entropy, call=call)
    with pytest.raises(ValueError, match="not samples but the nodes"):
        hdnn.fit_together([model], NODES[None], OF_NODES[None], recipe, cross_entropy, seeds=[0], call=call)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nodes_that_are_alike_are_not_drawn_either():
    with pytest.raises(ValueError, match="not samples but the nodes"):
        fit(Nodes(), torch.ones_like(NODES), OF_NODES, SHORT, cross_entropy, call={"edge_index": PATH})


def test_what_the_refusal_names_trains_as_a_plain_loop():
    one, two, three = Nodes(), Nodes(), Nodes()
    told = {"recipe": SHORT, "call": {"edge_index": RING}}
    fit(one, [(NODES, OF_NODES)], loss=cross_entropy, **told)
    fit(two, NODES[None], OF_NODES[None], loss=lambda output, y: cross_entropy(output.mT, y), **told)
    three.forward = lambda x, forward=three.forward: forward(x, edge_index=RING)
    wanted = plain(three, [((NODES,), OF_NODES)], cross_entropy)
    assert torch.equal(weights(one), wanted)
    torch.testing.assert_close(weights(two), wanted)


def test_samples_on_one_graph_and_rows_that_name_nodes_are_drawn():
    class Named(Nodes):
        def forward(self, x, **call):
            return super().forward(NODES, **call)[x]

    class OfRows(Nodes):
        def forward(self, x):
            near = (x[:, None] - x).square().sum(-1).fill_diagonal_(torch.inf).argmin(1)
            return super().forward(x, edge_index=torch.stack((near, torch.arange(len(x)))))

    class Complete(Nodes):
        def forward(self, x):
            return super().forward(x, edge_index=torch.cartesian_prod(*[torch.arange(len(x))] * 2).mT)

    call = {"edge_index": RING}
    samples = torch.stack([NODES, -NODES, NODES.flip(0)])
    fit(Nodes(), samples, samples[..., :2], Recipe(epochs=1), mse_loss, call=call)
    fit(Named(), torch.arange(12), OF_NODES, Recipe(epochs=1), cross_entropy, call=call)
    for model in (OfRows(), Complete()):
        fit(model, NODES, OF_NODES, Recipe(epochs=1, batch_size=5), cross_entropy)


def test_nodes_are_evaluated_all_at_once():
    nodes = 5000  # more than a part of many samples
    x = torch.randn(nodes, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    edges = torch.stack((torch.arange(nodes - 1), torch.arange(1, nodes)))
    model, call = Nodes(), {"edge_index": edges}
    with torch.no_grad():
        wanted = model(x, **call)
    assert torch.equal(outputs(model, x, call=call), wanted)
    assert evaluate(model, x, wanted + 1, mse_loss, call=call)["loss"] == pytest.approx(1)
