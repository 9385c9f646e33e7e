r"""
Norms that do not vanish
========================

Backpropagation multiplies the gradient of a loss by the transpose of M\ :sub:`j` = ∂y\ :sub:`N` / ∂y\ :sub:`j` on its
way from the output to the state before layer j. If the norm of M\ :sub:`j` is tiny, the layers before j learn nothing.
Here it is computed for a Hamiltonian flow, a multilayer perceptron and a residual network of the same width and depth.
"""

# %%
# :py:func:`hdnn.analysis.sensitivities` takes a flow, or any sequence of functions, and gives all M\ :sub:`j` of all
# samples at once. The networks have their initial random weights.

import torch
from torch import nn

import hdnn
from hdnn.analysis import gradients, log_norms, norms, sensitivities, statistics


class Residual(nn.Module):
    """A residual block: y + tanh(W y + b)."""

    def __init__(self, features):
        super().__init__()
        self.linear = nn.Linear(features, features)

    def forward(self, y):
        """One step without a J to hold it."""
        return y + torch.tanh(self.linear(y))


def perceptron(layers):
    """Layers of tanh(W y + b)."""
    return [nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double() for _ in range(layers)]


def residual(layers):
    """Residual blocks."""
    return [Residual(4).double() for _ in range(layers)]


def hamiltonian(layers):
    """A flow of H2."""
    return hdnn.h2(4, layers, step=0.1, dtype=torch.float64)


torch.manual_seed(0)
y0 = torch.randn(64, 4, dtype=torch.float64)
networks = {"H2": hamiltonian(64), "MLP": perceptron(64), "ResNet": residual(64)}
found = {}
for name, network in networks.items():
    found[name] = statistics(norms(sensitivities(network, y0)))
figure = hdnn.plots.norms_by_depth(found)

# %%
# The perceptron's norms fall by a factor a layer. Those of H2 stay above 1, and must: that is a theorem, for each of
# the five presets and any weights (:doc:`/theory`). The residual network has no such bound. With these weights its
# norms happen to grow; weights that contract, such as W = −I/2, make them vanish.

block = Residual(4).double()
with torch.no_grad():
    block.linear.weight.copy_(-torch.eye(4) / 2)
    block.linear.bias.zero_()
contracting = norms(sensitivities([block] * 64, y0))[0]
print(f"ResNet with W = -I/2, 64 layers: {contracting.min():.1e} to {contracting.max():.1e}")

# %%
# Deeper. Products of hundreds of matrices overflow or underflow; :py:func:`hdnn.analysis.log_norms` rescales after
# every layer and adds logarithms.

print("layers      H2       MLP    ResNet     median of ‖∂y_N/∂y_0‖ over the samples")
for layers in (8, 64, 512):
    made = hamiltonian(layers), perceptron(layers), residual(layers)
    medians = [log_norms(network, y0)[0].median().exp() for network in made]
    print(f"{layers:6}", *(f"{median:9.2g}" for median in medians))

# %%
# What this means for training: the gradient of a loss with respect to the weights of every layer.

labels = torch.randint(2, (64,)).double()


def loss(y):
    """How far the first feature is from the labels."""
    return nn.functional.mse_loss(y[:, 0], labels)


of_flow, of_mlp = gradients(networks["H2"], y0, loss), gradients(networks["MLP"], y0, loss)
print(f"weights of the first layer, H2:  {of_flow.parameter_norms['weight'][0]:.1e}")
print(f"weights of the first layer, MLP: {of_mlp.parameter_norms['0.weight'][0]:.1e}")
states = statistics(of_flow.state_norms)
figure = hdnn.plots.gradients_by_depth(states, of_flow.parameter_norms)

# %%
# The bound is one of the largest singular value. The others may fall below 1, and here they must: H2 with the canonical
# J has singular values in pairs s and 1/s, so that growth in one direction is decay in another.

singular = hdnn.analysis.singular_values(sensitivities(networks["H2"], y0))
bands = [statistics(values) for values in singular.unbind(-1)]
figure = hdnn.plots.singular_values_by_depth(bands)
