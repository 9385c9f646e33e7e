"""
Training on the Swiss roll
==========================

Two interleaved spirals in the plane, told apart by 64 layers of H1 with four features: the two coordinates and two
zeros, which give them room to move.
"""

# %%
# Data, network, recipe, training. The recipe is that of ``hdnn train swiss-roll`` with half as many epochs.

import numpy as np
import torch

import hdnn

data = hdnn.data.planar("swiss_roll", seed=0)
x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
x_test, y_test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)

torch.manual_seed(0)
network = hdnn.vector_classifier(2, 2, hdnn.h1(4, layers=64, horizon=3.2, init_std=1.0))
recorder = hdnn.SensitivityRecorder(network.flow, network.lift(x[:32]).detach(), every=20)
recipe = hdnn.Recipe(epochs=50, batch_size=125, learning_rate=0.02)
history = hdnn.fit(network, x, y, recipe, callbacks=[recorder])
print(f"test accuracy: {hdnn.evaluate(network, x_test, y_test)['accuracy']:.2%}")

# %%
# How it went:

figure = hdnn.plots.training_curves(history)

# %%
# What the network says in the plane, with the test points on top:

grid = np.linspace(-2.6, 2.6, 200, dtype=np.float32)
points = torch.from_numpy(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
with torch.no_grad():
    probability = network.probabilities(points)[:, 1].reshape(200, 200)
    predicted = network.predict(x_test)
some = slice(600)
figure = hdnn.plots.decision_regions(
    grid, grid, probability, x_test[some], y_test[some], data.classes, predicted=predicted[some]
)
# sphinx_gallery_thumbnail_number = 2

# %%
# How it gets there: the features after some of the layers, in the two directions in which they vary most. The spirals
# are moved until a hyperplane parts them.

with torch.no_grad():
    states = network.trajectory(x_test[some])
components = hdnn.analysis.principal_components(states)
figure = hdnn.plots.features_by_layer(
    components.coordinates,
    y_test[some],
    data.classes,
    layers=[0, 8, 24, 64],
    explained=components.explained,
)

# %%
# And the norms of ∂y_N/∂y_j while it trained, drawn as in figure 2 of the L4DC paper. None is below 1. Of j = N, the
# output itself, the norm is 1.

figure = hdnn.plots.sensitivities_by_iteration({"H1, Swiss roll": recorder})
before = recorder.minimum[:, :-1], recorder.maximum[:, :-1]
print(f"for j < N: smallest norm {before[0].min():.3f}, largest {before[1].max():.0f}")
