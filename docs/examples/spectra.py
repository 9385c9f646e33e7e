"""
Spectra
=======

The Jacobian of the field, A = J Kᵀ D K, has its eigenvalues on the imaginary axis: a layer turns its state and does not
damp it. What the integrator makes of that is another matter.
"""

# %%
# Eigenvalues of A in several layers of a random H1 network, each at a hundred states. The real parts are zero because
# the eigenvalues are found through a skew matrix that is similar to A.

import torch

import hdnn
from hdnn.analysis import Linearization, layer_jacobians, linearize, marginal_stability

torch.manual_seed(0)
flow = hdnn.h1(4, layers=16, step=0.15, init_std=1.0, dtype=torch.float64)
y0 = torch.randn(100, 4, dtype=torch.float64)
states = flow.trajectory(y0)
found = {f"layer {j}": linearize(flow, states[j], j).eigenvalues for j in (0, 5, 10, 15)}
figure = hdnn.plots.eigenvalues(found)

# %%
# A general eigensolver, which knows nothing of the structure, agrees up to rounding:

A = linearize(flow, states[0]).A
largest = torch.linalg.eigvals(A).real.abs().max() / torch.linalg.eigvals(A).abs().max()
print(f"largest real part over largest modulus: {largest:.0e}")

# %%
# A step of length h makes of an eigenvalue iω of A one of the layer's Jacobian; nothing grows and nothing is damped if
# that one lies on the unit circle. Forward Euler puts it outside, at 1 + ihω. Symplectic Euler keeps it on the circle
# as long as hω < 2, and implicit midpoint at any h. The classical Runge-Kutta method puts it inside as long as
# hω < 2√2. To see this alone, the field is linear here, so that A is the same at all stages of a step; and steps are
# large.

jacobians = {}
integrators = hdnn.ForwardEuler(), hdnn.SymplecticEuler(), hdnn.ImplicitMidpoint(), hdnn.RungeKutta4()
for integrator in integrators:
    torch.manual_seed(0)
    layers = hdnn.Flow(
        4,
        layers=16,
        step=0.5,
        structure=hdnn.BlockDiagonal(),
        interconnection=hdnn.Fixed(hdnn.canonical(4)),
        activation=hdnn.identity,
        integrator=integrator,
        init_std=0.8,
        dtype=torch.float64,
    )
    values = torch.linalg.eigvals(layer_jacobians(layers, y0[0]))
    jacobians[type(integrator).__name__] = values
figure = hdnn.plots.eigenvalues(jacobians, boundary="unit circle")
# sphinx_gallery_thumbnail_number = 2

# %%
# The largest and the smallest modulus of each:

for name, values in jacobians.items():
    print(f"{name:17} {values.abs().max():.4f} {values.abs().min():.4f}")

# %%
# Is the field marginally stable? At tanh, whose slope is positive everywhere, yes, if K has full rank. Where ReLU units
# are switched off, S = Kᵀ D K is singular, and A may have Jordan blocks at 0, which grow in proportion to time.

print("tanh:", marginal_stability(linearize(flow, y0[0])).reason)
rectified = hdnn.h1(4, layers=1, step=0.15, activation=hdnn.relu, dtype=torch.float64)
rectified.load_state_dict(flow[:1].state_dict())
answers = [marginal_stability(linearize(rectified, y)).answer for y in y0]
print("relu:", {answer: answers.count(answer) for answer in sorted(set(answers))})

# %%
# The smallest example of that: the canonical J and S = diag(1, 0).

smallest = Linearization(hdnn.canonical(2), torch.eye(2), torch.tensor([1.0, 0.0]))
print(marginal_stability(smallest).reason)
