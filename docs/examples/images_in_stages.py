"""
Images through stages
=====================

A network of two resolutions: a flow of 3 x 3 convolutions on digits of 8 x 8 pixels, a pool, a widening of the state
by zero channels, and another flow on 4 x 4. Every stage keeps M J Mᵀ = J; the whole network does not.
"""

# %%
# Data, network and recipe: one cycle of the learning rate, and the mean of the last weights.

import torch

import hdnn
from hdnn.analysis import largest_singular_values

data = hdnn.data.digits(seed=0)
x, y = torch.from_numpy(data.x_train).view(-1, 1, 8, 8), torch.from_numpy(data.y_train)
x_test, y_test = torch.from_numpy(data.x_test).view(-1, 1, 8, 8), torch.from_numpy(data.y_test)

torch.manual_seed(0)
network = hdnn.image_network(units=(2, 2), channels=(8, 16), inputs=1, normalization="units")
recipe = hdnn.Recipe(
    epochs=15,
    batch_size=32,
    optimizer="sgd",
    learning_rate=0.05,
    schedule="one_cycle",
    label_smoothing=0.1,
    average=0.99,
)
hdnn.fit(network, x, y, recipe)
print(f"test accuracy: {hdnn.evaluate(network, x_test, y_test)['accuracy']:.1%}")

# %%
# What the stages make of a few digits: the mean of the first half of the channels, p, after the stem and every stage.

network.eval()
with torch.no_grad():
    ends = network.flow.ends(network.lift(x_test[:4]))
rows = [[x_test[k, 0], *(state[k].chunk(2)[0].mean(0) for state in ends)] for k in range(4)]
titles = [["image", "stem", "stage 1", "stage 2"], *[[""] * 4] * 3]
figure = hdnn.plots.picture_rows(rows, titles)

# %%
# A stage in evaluation mode is a plain flow, with the running moments in its weights, and keeps what that keeps:

for stage in network.flow.flows:
    print(bool(stage.folded().preserves_structure))

# %%
# How strongly the last state answers to the state before each layer, through the pool and the widening: products with
# the Jacobians are enough, no matrix is built.

network.double()
state, layers = network.lift(x_test[:2].double()).detach(), network.flow.links()
for j in range(len(layers)):
    print(j, [f"{s:.2f}" for s in largest_singular_values(layers, state, start=j).flatten().tolist()])
