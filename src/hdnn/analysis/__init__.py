"""What a flow does to its states, computed after the fact: nothing here trains and nothing here draws."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn.analysis.backpropagation import Gradients, contracting_share, gradients
    from hdnn.analysis.bounds import log_layer_bounds, log_upper_bound, lower_bound, upper_bound
    from hdnn.analysis.certificates import GradientBound, gradient_lower_bound
    from hdnn.analysis.continuous import ContinuousSensitivities, continuous_sensitivities
    from hdnn.analysis.features import PrincipalComponents, principal_components
    from hdnn.analysis.invariants import (
        Symplecticity,
        check_symplecticity,
        energy_drift,
        log_volume,
        lyapunov_exponents,
        reversibility_error,
        symplecticity_residual,
    )
    from hdnn.analysis.jacobians import layer_jacobians
    from hdnn.analysis.magnitudes import (
        Statistics,
        condition_numbers,
        log_determinants,
        norms,
        singular_values,
        statistics,
    )
    from hdnn.analysis.matrix_free import (
        largest_singular_values,
        sensitivity_vector_product,
        vector_sensitivity_product,
    )
    from hdnn.analysis.ode import HamiltonianODE
    from hdnn.analysis.operators import operator_norms
    from hdnn.analysis.sensitivity import log_norms, sensitivities
    from hdnn.analysis.spectra import Linearization, MarginalStability, linearize, marginal_stability

# Lazy, because scikit-learn and torch take seconds to import and `hdnn --help` must not wait for them.
_HOME = {
    "backpropagation": ("Gradients", "contracting_share", "gradients"),
    "bounds": ("log_layer_bounds", "log_upper_bound", "lower_bound", "upper_bound"),
    "certificates": ("GradientBound", "gradient_lower_bound"),
    "continuous": ("ContinuousSensitivities", "continuous_sensitivities"),
    "features": ("PrincipalComponents", "principal_components"),
    "invariants": (
        "Symplecticity",
        "check_symplecticity",
        "energy_drift",
        "log_volume",
        "lyapunov_exponents",
        "reversibility_error",
        "symplecticity_residual",
    ),
    "jacobians": ("layer_jacobians",),
    "magnitudes": ("Statistics", "condition_numbers", "log_determinants", "norms", "singular_values", "statistics"),
    "matrix_free": ("largest_singular_values", "sensitivity_vector_product", "vector_sensitivity_product"),
    "ode": ("HamiltonianODE",),
    "operators": ("operator_norms",),
    "sensitivity": ("log_norms", "sensitivities"),
    "spectra": ("Linearization", "MarginalStability", "linearize", "marginal_stability"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ContinuousSensitivities",
    "GradientBound",
    "Gradients",
    "HamiltonianODE",
    "Linearization",
    "MarginalStability",
    "PrincipalComponents",
    "Statistics",
    "Symplecticity",
    "check_symplecticity",
    "condition_numbers",
    "continuous_sensitivities",
    "contracting_share",
    "energy_drift",
    "gradient_lower_bound",
    "gradients",
    "largest_singular_values",
    "layer_jacobians",
    "linearize",
    "log_determinants",
    "log_layer_bounds",
    "log_norms",
    "log_upper_bound",
    "log_volume",
    "lower_bound",
    "lyapunov_exponents",
    "marginal_stability",
    "norms",
    "operator_norms",
    "principal_components",
    "reversibility_error",
    "sensitivities",
    "sensitivity_vector_product",
    "singular_values",
    "statistics",
    "symplecticity_residual",
    "upper_bound",
    "vector_sensitivity_product",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
