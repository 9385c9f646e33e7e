"""What the numbers of an analysis mean, half a sentence each, for the terminal and the report.

Legend: M_j = ∂y_N/∂y_j the sensitivity of the output to the state before layer j, T the horizon.
"""

from __future__ import annotations

MEANINGS = {
    "from_layer": "the layers before it are left out, for gradients grow beyond all measure there",
    "smallest_norm": "at the sample where it is smallest, a gradient can reach the first layer this many times as long",
    "largest_norm": "a gradient grows by at most this factor on its way from the output to the first layer",
    "smallest_norm_at_any_depth": "below 1 gradients in every direction would shrink at that layer",
    "lower_bound": "no weights and no input make the norm smaller; it holds for one direction, not for every gradient",
    "log_upper_bound": "the natural logarithm of what the weights allow the norm to be at any input",
    "smallest_singular_value": "the gradient of some loss shrinks by this factor on its way to the first layer",
    "shrinking_share": "of all directions, those in which a gradient shrinks on its way back",
    "symplecticity_residual": "how far M J Mᵀ is from what was promised; near 1e-16 times ‖M‖², it is rounding",
    "largest_energy_drift": "how far a step's energy strays, which the continuous flow would keep",
    "marginally_stable": "states whose layer, frozen there, neither grows nor decays for ever",
    "spectral_radius_of_a_layer": "above 1 a layer stretches some direction at every pass",
    "largest_kreiss_constant": "a frozen layer grows by at least this factor on its way; eigenvalues do not tell",
    "largest_numerical_abscissa": "the fastest rate at which any direction grows for a moment, in 1/time",
    "largest_lyapunov_exponent": "the mean rate, in 1/time, at which the fastest direction grew over the whole depth",
    "deviation_of_largest_lyapunov_exponent": "its standard deviation over the samples",
    "contracting_share": "of the gradient at the output, the part in directions that shrink on their way back",
    "gradient_passage": "log₁₀ of the share of a gradient at the output that reaches the input: 0 is all, −1 a tenth",
    "gradient_passage_of_fresh_flows": "the same through untrained flows like this one",
    "gradient_passage_of_resnet": "the same through untrained ResNets with this step and PyTorch's weights",
    "gradient_passage_of_resnet_orthogonal": "the same through untrained ResNets with this step and orthogonal weights",
    "gradient_passage_of_perceptron": "the same through untrained perceptrons with PyTorch's weights",
    "gradient_passage_of_perceptron_orthogonal": "the same through untrained perceptrons with orthogonal weights",
}
