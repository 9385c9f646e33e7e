"""
The counterexample
==================

Marginal stability of the frozen field does not keep gradients from growing. The smallest example is y' = J tanh(y) in
the plane (appendix III of the TAC paper): its states run along a closed curve, and ∂y(t)/∂y(0) grows like t.
"""

# %%
# The system has K = I and b = 0. :py:func:`hdnn.analysis.continuous_sensitivities` solves the equation of its
# sensitivities to a tolerance.

import numpy as np
import torch
from matplotlib.figure import Figure

import hdnn
from hdnn.analysis import (
    HamiltonianODE,
    Linearization,
    continuous_sensitivities,
    marginal_stability,
    norms,
    sensitivities,
)

J = -hdnn.canonical(2, dtype=torch.float64)
y0 = torch.tensor([0.33627683, -0.48627683], dtype=torch.float64)
y0 = y0 / y0.norm()
times = np.linspace(0, 100, 501)
system = HamiltonianODE.piecewise(torch.eye(2), torch.zeros(2), J, horizon=100.0)
exact = continuous_sensitivities(system, y0, times, tolerance=1e-8)
figure = hdnn.plots.sensitivity_entries(times, exact.states, exact.forward)

# %%
# Frozen at any moment, the field neither grows nor decays:

slopes = hdnn.tanh.slope(exact.states)
frozen = [Linearization(J, torch.eye(2), slope) for slope in slopes[::25]]
print("marginally stable at 21 moments:", {marginal_stability(system).answer for system in frozen})

# %%
# But a neighbouring state runs along another curve of constant energy, with another period, and the two drift apart a
# little more with every turn. The determinant stays 1: the singular values are s and 1/s.

print(f"largest |det - 1|: {float((exact.forward.det() - 1).abs().max()):.0e}")

# %%
# A flow of symplectic Euler steps does the same. It keeps M J Mᵀ = J exactly, and its norms grow all the same: the
# lower bound of 1 says nothing about the other side.

flow = hdnn.Flow(
    2,
    layers=2000,
    step=0.05,
    structure=hdnn.BlockDiagonal(),
    interconnection=hdnn.Fixed(J),
    integrator=hdnn.SymplecticEuler(),
    shared=True,
    dtype=torch.float64,
)
with torch.no_grad():
    flow.weight.fill_(1.0)
    flow.bias.zero_()
M = sensitivities(flow, y0)

figure = Figure((6.0, 3.4), layout="constrained")
ax = figure.subplots()
ax.plot(times, norms(exact.forward), label="exact, ‖∂y(t)/∂y(0)‖")
t = 100 - 0.05 * np.arange(2001)
ax.plot(t, norms(M), label="symplectic Euler, ‖∂y_N/∂y_j‖ at t = (N − j) h")
ax.axhline(1, color="black", linewidth=1, linestyle="--", label="lower bound")
ax.set_xlabel("t")
ax.set_ylabel("norm")
_ = ax.legend(frameon=False)

# %%
# The growth is linear because nothing drives the system. Weights that change from layer to layer can make it
# exponential. :doc:`/choosing` says what to do about gradients that explode.
