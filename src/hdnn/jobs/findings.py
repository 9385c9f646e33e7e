"""What is found in a flow: numbers, and the tables and figures that show them; or the reason why there are none.

Legend: M_j = ∂y_N/∂y_j, L_j = ∂y_{j+1}/∂y_j the Jacobian of a layer, A = J Kᵀ D K that of its field, H the energy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from hdnn import plots
from hdnn.analysis import (
    check_symplecticity,
    contracting_share,
    energy_drift,
    kreiss_constant,
    largest_singular_values,
    layer_jacobians,
    linearize,
    log_layer_bounds,
    log_volume,
    lower_bound,
    lyapunov_exponents,
    marginal_stability,
    norms,
    numerical_abscissa,
    reversibility_error,
    singular_values,
    statistics,
)
from hdnn.flow import Flow
from hdnn.jobs import sights, staged
from hdnn.jobs.evidence import Drawing, Finding, LeftOut, Summary, or_reason, plain
from hdnn.jobs.staged import StagedSubject
from hdnn.jobs.subjects import TAME, Subject
from hdnn.report import Table

# Images, or states too large for matrices: products with them take long, so few samples at few depths are looked at.
_FEW_SAMPLES, _FEW_DEPTHS = 2, 5
# Layers, and states in each, whose spectrum is taken.
_LAYERS, _STATES = 8, 10
_ROWS = 9
# Features above which the Kreiss constant of a state takes seconds.
_MOST_FOR_KREISS = 32
# Singular values below this share of the largest are rounding.
_NOISE = 1e-13

_ENDS = (("largest", 0), ("smallest", -1))


def find(subject: Subject | StagedSubject) -> list[Finding | LeftOut]:
    """All analyses, those that apply and those that do not, in the order to be read."""
    if isinstance(subject, StagedSubject):
        return staged.find(subject)
    return [analysis(subject) for analysis in (_norms, _singular_values, _structure, _energy, _spectra, _rates, _loss)]


_TOO_LARGE = "The Jacobian of one state is too large to be built; only its norm was computed, without the matrix."


def _norms(subject: Subject) -> Finding:
    flow = subject.flow
    if subject.has_matrices:
        depths, values = subject.depths, norms(subject.sensitivities)
        how = f"at {len(values[0])} states"
    else:
        depths = sorted({round(flow.layers * i / (_FEW_DEPTHS - 1)) for i in range(_FEW_DEPTHS)})
        values = torch.stack([_matrix_free_norm(subject, j) for j in depths])
        how = f"at {len(values[0])} states and {len(depths)} depths, by products with M and Mᵀ alone"
    bands = statistics(values)
    lower, why_no_lower = or_reason(lambda: lower_bound(flow))
    upper, why_no_upper = or_reason(lambda: _log_upper_bounds(flow, depths))
    said = [
        f"How strongly the output answers to the state before every layer, ‖∂y_N/∂y_j‖₂, {how}; gradients of any loss "
        f"grow by at most this factor on their way back. Norms are taken sample by sample.",
        why_no_lower
        or "None can fall below 1: some direction never vanishes, which does not say that the gradient points there.",
        why_no_upper,
        f"Before layer {depths[0]} they exceed {TAME:g}, so only the layers from there on are looked at."
        if depths[0]
        else "",
    ]
    summary: Summary = {
        **({"from_layer": depths[0]} if depths[0] else {}),
        "smallest_norm": float(values[0].min()),
        "largest_norm": float(values[0].max()),
        "smallest_norm_at_any_depth": float(values[:-1].min()),  # the last is that of the identity
        "lower_bound": lower,
        "log_upper_bound": None if upper is None else float(upper[0]),
    }
    bounds = {"lower_bound": lower, "log_upper_bound": None if upper is None else upper.tolist()}
    rows = [
        (depths[i], float(bands.minimum[i]), float(bands.mean[i]), float(bands.maximum[i])) for i in _some(len(depths))
    ]
    note = "A gradient at the output reaches the state before this layer at most so many times as long."
    table = Table("Norms", ("state before layer", "smallest", "mean", "largest"), rows, note)
    drawn_upper = None if upper is None else {subject.model: upper.exp()}
    figure = plots.norms_by_depth({subject.model: bands}, lower=lower, upper=drawn_upper, depths=depths)
    caption = (
        "Line: mean over the samples; band: from the smallest to the largest. The upper bound follows from the weights "
        "alone and holds for every input."
    )
    return Finding(
        "norms",
        "Sensitivities by depth",
        " ".join(filter(None, said)),
        {"depths": depths, **plain(bands), **bounds},
        summary,
        [table],
        [Drawing("norms.png", figure, "Norms by depth", sights.of_bands("Norms", bands, depths), caption)],
    )


@torch.no_grad()
def _log_upper_bounds(flow: Flow, depths: list[int]) -> Tensor:
    """Of log ‖∂y_N/∂y_j‖ at these depths: the sums of the bounds of all layers behind them."""
    layers = log_layer_bounds(flow)
    return torch.cat((layers.flip(0).cumsum(0).flip(0), layers.new_zeros(1)))[depths]


def _matrix_free_norm(subject: Subject, j: int) -> Tensor:
    y0 = subject.y0[:_FEW_SAMPLES]
    if j == subject.flow.layers:
        return y0.new_ones(len(y0))
    return largest_singular_values(subject.flow, y0, count=1, start=j).squeeze(-1)


def _singular_values(subject: Subject) -> Finding | LeftOut:
    title = "Singular values by depth"
    if not subject.has_matrices:
        return LeftOut("singular_values", title, _TOO_LARGE)
    s = singular_values(subject.sensitivities)
    bands = [statistics(of_samples) for of_samples in s.unbind(-1)]
    text = (
        "Directions whose singular value is above 1 grow on the way back, those below 1 shrink. Where M J Mᵀ = J with "
        "the canonical J they come in pairs s and 1/s: growth in one direction is decay in another. "
    )
    smallest = shrinking = None
    if (s[0, :, -1] > _NOISE * s[0, :, 0]).all():
        smallest, shrinking = float(s[0].min()), float((s[0] < 1 - 1e-9).double().mean())
        text += f"Over all layers shown, {100 * shrinking:.0f} % of the directions shrink."
    else:
        text += f"Those below {_NOISE:g} s₁ are rounding, so how many directions shrink over all layers is not known."
    figure = plots.singular_values_by_depth(bands, depths=subject.depths)
    caption = (
        "Lines: means over the samples; bands: from the smallest to the largest; dashed: neither grows nor decays."
    )
    numbers = {"depths": subject.depths, "shrinking_share": shrinking, "values": [plain(band) for band in bands]}
    summary: Summary = {"smallest_singular_value": smallest, "shrinking_share": shrinking}
    seen = [sights.of_bands(f"The {which} singular value", bands[i], subject.depths) for which, i in _ENDS]
    drawing = Drawing("singular_values.png", figure, title, " ".join(seen), caption)
    return Finding("singular_values", title, text, numbers, summary, [], [drawing])


def _structure(subject: Subject) -> Finding | LeftOut:
    flow = subject.flow
    found: dict[str, Tensor] = {}
    said: list[str] = []
    if subject.has_matrices:
        tail, start = flow[subject.first :], subject.states[subject.first]
        kept, reason = or_reason(lambda: check_symplecticity(tail, start))
        if kept is not None:
            of_J = "J" if kept.factor == 1 else f"{kept.factor:.4g} J"
            found[f"‖M J Mᵀ − {of_J}‖ for J = {flow.interconnection!r}"] = kept.absolute
            found["the same / (‖M‖² ‖J‖)"] = kept.relative
        said.append(reason.split(" To measure")[0])
        found["log |det M|" + (" (0 promised)" if flow.preserves_volume else "")] = log_volume(tail, start)
    with torch.no_grad():
        error, reason = or_reason(lambda: reversibility_error(flow, subject.y0))
    if error is not None and error.isfinite().all():
        found["‖inverse(flow(y₀)) − y₀‖"] = error
    said.append(reason if error is None or error.isfinite().all() else "The way back to the input overflows.")
    if not found:
        return LeftOut("structure", "Structure", " ".join(said))
    rows = [(name, float(v.min()), float(v.mean()), float(v.max())) for name, v in found.items()]
    text = "What is left of the identities that the factors of the flow promise; a promise kept leaves only rounding. "
    numbers = {name: {"minimum": low, "mean": mean, "maximum": high} for name, low, mean, high in rows}
    symplecticity = rows[0][3] if "J Mᵀ" in rows[0][0] else None
    summary: Summary = {"symplecticity_residual": symplecticity}
    note = "Zero but for rounding where the flow keeps what the row names; rounding grows with ‖M‖²."
    table = Table("Residuals over the samples", ("", "smallest", "mean", "largest"), rows, note)
    text += " ".join(sentence for sentence in said if sentence)
    return Finding("structure", "Structure", text.strip(), numbers, summary, [table])


def _energy(subject: Subject) -> Finding | LeftOut:
    with torch.no_grad():
        drift, reason = or_reason(lambda: energy_drift(subject.flow, subject.y0))
    if drift is None:
        return LeftOut("energy", "Energy along depth", reason.split(" Use ")[0])  # what to do in Python, not here
    bands = statistics(drift)
    text = (
        "All layers share one energy H(y) = 1ᵀ σ̃(K y + b), which the continuous field "
        f"{'keeps exactly but for its damping' if subject.flow.damping else 'keeps exactly'}; what the steps of "
        "the integrator make of it, H(y_j) − H(y_0)."
    )
    caption = "Line: mean over the samples; band: from the smallest to the largest."
    figure = plots.energy_by_depth({subject.model: bands})
    alt = sights.of_bands("The drift of the energy", bands, range(subject.flow.layers + 1))
    drawing = Drawing("energy.png", figure, "Energy along depth", alt, caption)
    summary: Summary = {"largest_energy_drift": float(drift.abs().max())}
    return Finding("energy", "Energy along depth", text, plain(bands), summary, [], [drawing])


def _spectra(subject: Subject) -> Finding | LeftOut:
    if not subject.has_matrices:
        return LeftOut("spectra", "Spectra", _TOO_LARGE)
    flow, states = subject.flow, subject.states[:, :_STATES]
    if flow.damping or not flow.interconnection.skew:
        return LeftOut(
            "spectra", "Spectra", "A damped step is more than a field, whose eigenvalues would say too little."
        )
    last = flow.layers - 1
    layers = sorted({round(last * i / (_LAYERS - 1)) for i in range(_LAYERS)})
    continuous: dict[str, Tensor] = {}
    discrete: dict[str, Tensor] = {}
    evidence, constants, abscissas = [], [], []
    for j in layers:
        system = linearize(flow, states[j], j)
        continuous[f"layer {j}"] = system.eigenvalues
        abscissas.append(float(numerical_abscissa(system.A).max()))
        if flow.features <= _MOST_FOR_KREISS:
            constants.append(kreiss_constant(system.A[0]))
        discrete[f"layer {j}"] = torch.linalg.eigvals(layer_jacobians(flow[j], states[j])[0])
        evidence += [marginal_stability(linearize(flow, y, j)) for y in states[j]]
    answers = Counter(found.answer for found in evidence)
    radius = max(float(values.abs().max()) for values in discrete.values())
    text = (
        f"Left to itself at a state, the field y' = A y is marginally stable if its eigenvalues are imaginary and have "
        f"no Jordan blocks. Of {len(evidence)} states in {len(layers)} layers the answer is "
        f"{', '.join(f'{answer}: {number}' for answer, number in answers.items())}. Along a trajectory A moves, so "
        f"this promises nothing about the whole flow. The eigenvalues of a layer, a step of the integrator, have "
        f"moduli of up to {radius:.4g}. How far a frozen layer grows before it comes back, eigenvalues do not tell: no "
        f"direction grows faster than at the rate {max(abscissas):.4g}, the numerical abscissa"
        f"{_kreiss_said(constants)}."
    )
    rows = sorted({(found.answer, found.reason) for found in evidence if found.answer != "yes"})[:_ROWS]
    tables = [Table("States that are not marginally stable", ("answer", "reason"), rows)] if rows else []
    drawings = [
        Drawing(
            "spectrum.png",
            plots.eigenvalues(continuous),
            "Eigenvalues of A = J Kᵀ D K",
            sights.of_spectrum(continuous.values(), "imaginary axis"),
            "Of the field of some layers, at states of the samples. They are computed through a similar skew matrix.",
        ),
        Drawing(
            "layer_spectrum.png",
            plots.eigenvalues(discrete, boundary="unit circle"),
            "Eigenvalues of a layer's Jacobian",
            sights.of_spectrum(discrete.values(), "unit circle"),
            "The same after a step of the integrator: outside the unit circle a layer expands along some direction.",
        ),
    ]
    numbers = {
        "layers": layers,
        "states": states.shape[1],
        "answers": dict(answers),
        "largest_real_part": max(found.real_part for found in evidence),
        "kreiss_constants": [each if math.isfinite(each) else None for each in constants],
        "numerical_abscissas": abscissas,
        "spectral_radius": {name: float(values.abs().max()) for name, values in discrete.items()},
        "imaginary_parts": {name: values.imag.flatten().tolist() for name, values in continuous.items()},
    }
    summary: Summary = {
        "marginally_stable": f"{answers['yes']} of {len(evidence)}",
        "spectral_radius_of_a_layer": radius,
        "largest_kreiss_constant": max(constants) if constants and math.inf not in constants else None,
        "largest_numerical_abscissa": max(abscissas),
    }
    return Finding("spectra", "Spectra", text, numbers, summary, tables, drawings)


def _kreiss_said(constants: Sequence[float]) -> str:
    if not constants:
        return ""
    largest = "∞" if math.inf in constants else f"{max(constants):.4g}"
    return f"; at one state of each of these layers the Kreiss constant, which exp(t A) reaches, is up to {largest}"


def _rates(subject: Subject) -> Finding | LeftOut:
    title = "Lyapunov exponents"
    if not subject.has_matrices:
        return LeftOut("lyapunov", title, _TOO_LARGE)
    rates = lyapunov_exponents(subject.flow, subject.y0)
    chosen = _some(rates.shape[-1])
    bands = statistics(rates.mT)
    rows = [
        (i + 1, *(float(of[i]) for of in (bands.minimum, bands.mean, bands.deviation, bands.maximum))) for i in chosen
    ]
    text = (
        f"Mean growth rates of {rates.shape[-1]} directions over the horizon T = {subject.flow.horizon:.4g}, by QR "
        f"factorisations. Their sum is log |det M| / T. For M J Mᵀ = J with the canonical J their limits, as the "
        f"horizon grows, come in pairs λ and −λ."
    )
    summary: Summary = {
        "largest_lyapunov_exponent": float(rates.max()),
        "deviation_of_largest_lyapunov_exponent": float(bands.deviation[0]),
    }
    note = "In 1/time: a direction of the rate λ grows by e^(λT) over the whole depth, and shrinks where λ < 0."
    columns = ("rank", "smallest", "mean", "standard deviation", "largest")
    table = Table("Exponents over the samples", columns, rows, note)
    numbers = plain(bands) | {"deviation": bands.deviation.tolist()}
    return Finding("lyapunov", title, text, numbers, summary, [table])


def _loss(subject: Subject) -> Finding | LeftOut:
    title = "Gradients of the loss by layer"
    if subject.gradients is None:
        return LeftOut("gradients", title, "An untrained flow has no loss.")
    found = subject.gradients()
    bands = statistics(found.state_norms)
    share = None
    text = (
        f"The gradients of the mean loss over the samples, {found.loss:.4g}, with respect to the state before every "
        f"layer (of every sample) and to the parameters of every layer."
    )
    if subject.has_matrices and subject.flow.features == found.states[-1].shape[-1] and found.states[-1].dim() == 2:
        g = found.states[-1][: len(subject.y0)]
        share = float(contracting_share(subject.sensitivities[:1], g).mean())
        text += (
            f" Of dL/dy_N, {100 * share:.0f} % (squared norm, mean over the samples) lies in directions that shrink on "
            f"their way to layer {subject.depths[0]}."
        )
    caption = "Left: line, mean over the samples; band, from the smallest to the largest. Right: of the whole batch."
    figure = plots.gradients_by_depth(bands, found.parameter_norms)
    alt = sights.of_bands("Gradients of the states", bands, range(subject.flow.layers + 1))
    drawing = Drawing("gradients.png", figure, title, alt, caption)
    numbers = {
        "loss": found.loss,
        "states": plain(bands),
        "parameters": {name: norms.tolist() for name, norms in found.parameter_norms.items()},
        "contracting_share": share,
    }
    return Finding("gradients", title, text, numbers, {"contracting_share": share}, [], [drawing])


def _some(count: int) -> Sequence[int]:
    """At most nine places, evenly, with the first and the last."""
    shown = min(_ROWS, count)
    return [round((count - 1) * i / max(1, shown - 1)) for i in range(shown)]
