r"""
Signals of any length, graphs of any size
=========================================

A flow of signals or of graphs gives a state at every position. For one answer the states are averaged at the end, and
then nothing depends on how many there are: both networks here are tested on sizes that they have never seen.
"""

# %%
# Signals: noise in which one of two short motifs stands somewhere, at a place drawn anew for every sample. They are
# learned at 48 positions. Three stages, each a flow, halve the number of positions between them.

import torch
from matplotlib.figure import Figure

import hdnn

MOTIFS = torch.tensor([[1.0, 1.0, -1.0, -1.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0, -1.0, 1.0]])


def signals(count, length, seed):
    """Signals (count, 1, length) and which motif they hold."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(count, length, generator=generator)
    y = torch.randint(2, (count,), generator=generator)
    starts = torch.randint(length - 6, (count,), generator=generator)
    x.scatter_add_(1, starts[:, None] + torch.arange(6), 2 * MOTIFS[y])
    return x[:, None], y


torch.manual_seed(0)
stages = [hdnn.h2(n, layers=4, horizon=1.0, space=hdnn.Signals(5)) for n in (8, 16, 16)]
network = hdnn.signal_classifier(1, 2, stages)
hdnn.fit(network, *signals(1000, 48, seed=0), hdnn.Recipe(epochs=25, learning_rate=0.01, batch_size=50))

lengths = [24, 48, 96, 192]
accuracies = []
for length in lengths:
    x, y = signals(1000, length, seed=1)
    accuracies.append(float((network.predict(x) == y).float().mean()))
    print(f"length {length}: {100 * accuracies[-1]:.1f} % of fresh signals")

# %%
# Graphs: rings and lines, told apart by their ends alone, for all nodes carry the same number. They come as PyTorch
# Geometric collates them: nodes one after the other, edges counted on, and the graph of every node. Learned are graphs
# of 5 to 8 nodes.


def graphs(sizes, seed):
    """One batch: nodes, edges and graph of every node, and which graphs are rings."""
    generator, edges, graph, start = torch.Generator().manual_seed(seed), [], [], 0
    rings = torch.randint(2, (len(sizes),), generator=generator)
    for number, (nodes, ring) in enumerate(zip(sizes, rings.tolist(), strict=True)):
        i = torch.arange(nodes - 1 + ring)
        forth = torch.stack((i, (i + 1) % nodes)) + start
        edges += [forth, forth.flip(0)]
        graph += [number] * nodes
        start += nodes
    return (torch.ones(start, 1), torch.cat(edges, 1), torch.tensor(graph)), rings


torch.manual_seed(0)
of_graphs = hdnn.graph_classifier(1, 2, hdnn.h2(8, layers=4, step=0.2, space=hdnn.Graph()))
loader = [graphs([5 + (3 * batch + i) % 4 for i in range(16)], seed=batch) for batch in range(12)]
hdnn.fit(of_graphs, loader, recipe=hdnn.Recipe(epochs=40, learning_rate=0.03))

sizes = [5, 8, 12, 16, 24]
of_sizes = []
for size in sizes:
    inputs, rings = graphs([size] * 200, seed=100)
    of_sizes.append(float((of_graphs.predict(*inputs) == rings).float().mean()))
    print(f"{size} nodes: {100 * of_sizes[-1]:.1f} % of fresh graphs")

# %%
# The mean dilutes what stands at one place: the larger a signal or a graph, the less of a motif, or of the ends of a
# line, is left in it. Sizes near those that were learned are safe; for others learn from several, or pool by the sum.

figure = Figure(figsize=(7.2, 3.2), layout="constrained")
left, right = figure.subplots(1, 2, sharey=True)
for panel, places, values, seen in ((left, lengths, accuracies, (48, 48)), (right, sizes, of_sizes, (5, 8))):
    panel.plot(places, [100 * value for value in values], marker="o", color="#0072B2")
    panel.axvspan(seen[0] - 0.4, seen[1] + 0.4, color="#e4e4e4", label="learned from")
    panel.axhline(50, color="#222222", linestyle="--", linewidth=1, label="guessing")
left.set(xlabel="positions of a signal", ylabel="accuracy, %", ylim=(45, 101))
right.set(xlabel="nodes of a graph")
right.legend()
