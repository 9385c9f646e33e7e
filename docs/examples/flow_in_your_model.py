"""
A flow in your own model
========================

A Hamiltonian flow is a PyTorch module from (..., n) to (..., n). It goes wherever a stack of hidden layers would go,
and is trained like one.
"""

# %%
# The model: scikit-learn's handwritten digits, 64 pixels each, lifted to 32 features by a linear layer, through 64
# layers of :py:func:`hdnn.h2`, and down to 10 classes.

import torch
from torch import nn

import hdnn

torch.manual_seed(0)
flow = hdnn.h2(features=32, layers=64, horizon=1.0)
model = nn.Sequential(nn.Linear(64, 32), flow, nn.Linear(32, 10))
print(flow)

# %%
# Nothing about the training is special. (:py:func:`hdnn.fit` does the same with less writing.)

data = hdnn.data.digits(seed=0)
x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(15):
    for batch in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

x_test, y_test = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
with torch.no_grad():
    accuracy = (model(x_test).argmax(1) == y_test).float().mean()
print(f"test accuracy after 15 epochs: {accuracy:.1%}")

# %%
# A flow is more than a stack of layers. The state after every layer can be asked for, the steps of H2 can be undone,
# and a slice of a flow is a flow.

with torch.no_grad():
    y0 = model[0](x_test)
    states = flow.trajectory(y0)
    print("states:", tuple(states.shape))
    error = (flow.inverse(states[-1]) - y0).abs().max()
    print(f"lost on the way there and back: {error:.0e}")
    first, rest = flow[:40], flow[40:]
    print("the same in two parts:", torch.allclose(rest(first(y0)), flow(y0)))

# %%
# What the 64 layers do to the digits, in the two directions in which the states of all layers vary most:

components = hdnn.analysis.principal_components(states)
figure = hdnn.plots.features_by_layer(
    components.coordinates,
    y_test,
    data.classes,
    layers=[0, 16, 32, 64],
    explained=components.explained,
)

# %%
# Any other choice of factors makes a flow as well. This one has twice as many hidden units a layer as features, another
# activation, an integrator of second order, and a J that is learned.

J = hdnn.Learned(hdnn.canonical(32), mask=hdnn.block(torch.ones(16, 16)) != 0)
flow = hdnn.Flow(
    features=32,
    layers=16,
    horizon=1.0,
    structure=hdnn.BlockDiagonal(width=64),
    interconnection=J,
    activation=hdnn.softplus,
    integrator=hdnn.StormerVerlet(),
)
print(flow)
print("keeps its J:", flow.preserves_structure)
