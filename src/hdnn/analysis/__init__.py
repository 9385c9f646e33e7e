"""What a flow does to its states, computed after the fact: nothing here trains and nothing here draws."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdnn.analysis.backpropagation import Gradients as Gradients
    from hdnn.analysis.backpropagation import contracting_share as contracting_share
    from hdnn.analysis.backpropagation import gradients as gradients
    from hdnn.analysis.bounds import log_layer_bounds as log_layer_bounds
    from hdnn.analysis.bounds import log_upper_bound as log_upper_bound
    from hdnn.analysis.bounds import lower_bound as lower_bound
    from hdnn.analysis.bounds import upper_bound as upper_bound
    from hdnn.analysis.certificates import GradientBound as GradientBound
    from hdnn.analysis.certificates import gradient_lower_bound as gradient_lower_bound
    from hdnn.analysis.continuous import ContinuousSensitivities as ContinuousSensitivities
    from hdnn.analysis.continuous import continuous_sensitivities as continuous_sensitivities
    from hdnn.analysis.contractivity import Contraction as Contraction
    from hdnn.analysis.contractivity import contraction as contraction
    from hdnn.analysis.features import PrincipalComponents as PrincipalComponents
    from hdnn.analysis.features import principal_components as principal_components
    from hdnn.analysis.invariants import Symplecticity as Symplecticity
    from hdnn.analysis.invariants import check_symplecticity as check_symplecticity
    from hdnn.analysis.invariants import energy_drift as energy_drift
    from hdnn.analysis.invariants import log_volume as log_volume
    from hdnn.analysis.invariants import reversibility_error as reversibility_error
    from hdnn.analysis.invariants import symplecticity_residual as symplecticity_residual
    from hdnn.analysis.jacobians import layer_jacobians as layer_jacobians
    from hdnn.analysis.lyapunov import lyapunov_exponents as lyapunov_exponents
    from hdnn.analysis.lyapunov import lyapunov_statistics as lyapunov_statistics
    from hdnn.analysis.magnitudes import Statistics as Statistics
    from hdnn.analysis.magnitudes import condition_numbers as condition_numbers
    from hdnn.analysis.magnitudes import log_determinants as log_determinants
    from hdnn.analysis.magnitudes import norms as norms
    from hdnn.analysis.magnitudes import singular_values as singular_values
    from hdnn.analysis.magnitudes import statistics as statistics
    from hdnn.analysis.matrix_free import largest_singular_values as largest_singular_values
    from hdnn.analysis.matrix_free import sensitivity_vector_product as sensitivity_vector_product
    from hdnn.analysis.matrix_free import vector_sensitivity_product as vector_sensitivity_product
    from hdnn.analysis.ode import HamiltonianODE as HamiltonianODE
    from hdnn.analysis.operators import operator_norms as operator_norms
    from hdnn.analysis.portraits import PhasePortrait as PhasePortrait
    from hdnn.analysis.portraits import phase_portrait as phase_portrait
    from hdnn.analysis.sensitivity import log_norms as log_norms
    from hdnn.analysis.sensitivity import sensitivities as sensitivities
    from hdnn.analysis.spectra import Linearization as Linearization
    from hdnn.analysis.spectra import MarginalStability as MarginalStability
    from hdnn.analysis.spectra import linearize as linearize
    from hdnn.analysis.spectra import marginal_stability as marginal_stability
    from hdnn.analysis.topology import Topology as Topology
    from hdnn.analysis.topology import check_topology as check_topology
    from hdnn.analysis.transient import TransientGrowth as TransientGrowth
    from hdnn.analysis.transient import kreiss_constant as kreiss_constant
    from hdnn.analysis.transient import numerical_abscissa as numerical_abscissa
    from hdnn.analysis.transient import transient_growth as transient_growth

# Lazy, because scikit-learn and torch take seconds to import and `hdnn --help` must not wait for them.
_HOME = {
    "backpropagation": "Gradients contracting_share gradients",
    "bounds": "log_layer_bounds log_upper_bound lower_bound upper_bound",
    "certificates": "GradientBound gradient_lower_bound",
    "continuous": "ContinuousSensitivities continuous_sensitivities",
    "contractivity": "Contraction contraction",
    "features": "PrincipalComponents principal_components",
    "invariants": "Symplecticity check_symplecticity energy_drift log_volume "
    "reversibility_error symplecticity_residual",
    "jacobians": "layer_jacobians",
    "lyapunov": "lyapunov_exponents lyapunov_statistics",
    "magnitudes": "Statistics condition_numbers log_determinants norms singular_values statistics",
    "matrix_free": "largest_singular_values sensitivity_vector_product vector_sensitivity_product",
    "ode": "HamiltonianODE",
    "operators": "operator_norms",
    "portraits": "PhasePortrait phase_portrait",
    "sensitivity": "log_norms sensitivities",
    "spectra": "Linearization MarginalStability linearize marginal_stability",
    "topology": "Topology check_topology",
    "transient": "TransientGrowth kreiss_constant numerical_abscissa transient_growth",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
