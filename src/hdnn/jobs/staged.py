"""What is found in a network in stages: norms and gradients by layer through pools and widenings, without matrices.

Legend: M_j = ∂y_N/∂y_j of the last state by that before layer j; of one stage, M that of its last state by its first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from hdnn import plots
from hdnn.analysis import (
    Gradients,
    gradients,
    largest_singular_values,
    sensitivity_vector_product,
    statistics,
    vector_sensitivity_product,
)
from hdnn.jobs import sights
from hdnn.jobs.evidence import Drawing, Finding, LeftOut, Summary, plain
from hdnn.jobs.factors import factors_of
from hdnn.report import Table
from hdnn.stages import Stage, Stages

_FEW_SAMPLES, _FEW_DEPTHS = 2, 7
_TOO_LARGE = "The Jacobian of one image is too large to be built; only products with it are computed."


@dataclass(frozen=True, eq=False)
class StagedSubject:
    """Stages in float64 and evaluation mode, and the images that they start from, lifted. Made by `trained`.

    Attributes:
        title: which network.
        lead: a sentence on stages and states.
        model: "stages".
        flow: the stages.
        y0: (B, c, H, W).
        notes: what a reader must know.
        gradients: computes the gradients of the loss by state.
    """

    title: str
    lead: str
    model: str
    flow: Stages
    y0: Tensor
    notes: list[str]
    gradients: Callable[[], Gradients] | None = field(default=None)

    @cached_property
    def states(self) -> list[Tensor]:
        """The state before the first layer and after every one, with the pool and the widening behind it.

        Raises:
            FloatingPointError: if one is not finite.
        """
        found = [self.y0]
        with torch.no_grad():
            for layer in self.flow.links():
                found.append(layer(found[-1]))
        broken = [j for j, y in enumerate(found) if not bool(y.isfinite().all())]
        if broken:
            raise FloatingPointError(f"The state after layer {broken[0] - 1} is not finite: nothing can be analysed.")
        return found


def find(subject: StagedSubject) -> list[Finding | LeftOut]:
    """All analyses, those that apply and those that do not, in the order to be read."""
    left_out = [
        LeftOut("singular_values", "Singular values by depth", _TOO_LARGE),
        LeftOut("energy", "Energy along depth", "The layers share no energy."),
        LeftOut("spectra", "Spectra", _TOO_LARGE),
        LeftOut("lyapunov", "Lyapunov exponents", "States of different sizes have no common directions."),
    ]
    return [_norms(subject), _structure(subject), _loss(subject), *left_out]


def _norms(subject: StagedSubject) -> Finding:
    """‖M_j‖ at a few depths."""
    layers, y0 = subject.flow.links(), subject.y0[:_FEW_SAMPLES]
    last = len(layers)
    inner = sorted({round((last - 1) * i / (_FEW_DEPTHS - 2)) for i in range(_FEW_DEPTHS - 1)})
    found = [largest_singular_values(layers, y0, start=j).squeeze(-1) for j in inner]
    depths, values = [*inner, last], torch.stack([*found, torch.ones_like(found[0])])
    bands = statistics(values)
    text = (
        f"How strongly the last state answers to the state before every layer, ‖∂y_N/∂y_j‖₂, through all that lies "
        f"between: layers, pools and widenings; at {len(y0)} images and {len(depths)} depths, by products with M and "
        f"Mᵀ alone. A pool makes it smaller: a mean over four positions has the norm 1/2. No bound holds for the whole."
    )
    summary: Summary = {
        "smallest_norm": float(values[0].min()),
        "largest_norm": float(values[0].max()),
        "smallest_norm_at_any_depth": float(values[:-1].min()),
        "lower_bound": None,
    }
    rows = [
        (depth, *(float(of[i]) for of in (bands.minimum, bands.mean, bands.maximum))) for i, depth in enumerate(depths)
    ]
    note = "A gradient at the last state reaches the state before this layer at most so many times as long."
    table = Table("Norms", ("state before layer", "smallest", "mean", "largest"), rows, note)
    figure = plots.norms_by_depth({subject.model: bands}, lower=None, depths=depths)
    alt = sights.of_bands("Norms", bands, depths)
    drawing = Drawing("norms.png", figure, "Norms by depth", alt, "Line: mean; band: from the smallest to the largest.")
    return Finding(
        "norms", "Sensitivities by depth", text, {"depths": depths, **plain(bands)}, summary, [table], [drawing]
    )


def _structure(subject: StagedSubject) -> Finding:
    """What every stage keeps, measured along one random direction."""
    rows: list[tuple[object, ...]] = []
    worst, y = 0.0, subject.y0[:_FEW_SAMPLES]
    for part in subject.flow:
        if not isinstance(part, Stage) or not part.flow.layers:
            with torch.no_grad():
                y = part(y)
            continue
        residual = _residual(part, y)
        with torch.no_grad():
            after = part(y)
            back = float((part.inverse(after) - y).abs().max())
        promised = "volume" if part.normalization == "batch" else "M J Mᵀ = J"
        worst = max(worst, residual if part.normalization != "batch" else 0.0)
        rows.append((len(rows) + 1, part.flow.layers, part.flow.features, promised, residual, back))
        y = after
    promising = any(row[3] != "volume" for row in rows)
    head = ("stage", "layers", "channels", "promised", "‖M J Mᵀ v − J v‖ / ‖v‖", "error of the way back")
    text = (
        "What is left of the identities that every stage promises, at a random direction v: a promise kept leaves only "
        "rounding. Between stages, pools divide J by the positions that become one, and widenings add channels on "
        "which M J Mᵀ is zero: nothing of this holds for the whole network."
    )
    numbers = {"stages": [dict(zip(("stage", "layers", "channels", "promised"), row, strict=False)) for row in rows]}
    for of_stage, row in zip(numbers["stages"], rows, strict=True):
        of_stage |= {"residual": row[4], "reversal": row[5]}
    summary: Summary = {"symplecticity_residual": worst if promising else None}
    return Finding("structure", "Structure", text, numbers, summary, [Table("Stages", head, rows)])


@torch.no_grad()
def _residual(stage: Stage, y: Tensor) -> float:
    """‖M J Mᵀ v − J v‖ / ‖v‖, the largest over the samples."""
    layers = Stages(stage).links()
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    pulled = vector_sensitivity_product(layers, y, v)[0]
    moved = sensitivity_vector_product(layers, y, _turned(pulled))
    return float(((moved - _turned(v)).flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1)).max())


def _turned(v: Tensor) -> Tensor:
    """J v of the canonical J."""
    p, q = v.chunk(2, 1)
    return torch.cat((q, -p), 1)


def _loss(subject: StagedSubject) -> Finding | LeftOut:
    title = "Gradients of the loss by layer"
    if subject.gradients is None:
        return LeftOut("gradients", title, "There is no loss.")
    found = subject.gradients()
    bands = statistics(found.state_norms)
    text = f"The gradients of the mean loss, {found.loss:.4g}, with respect to the state before every layer."
    figure = plots.gradients_by_depth(bands, found.parameter_norms)
    alt = sights.of_bands("Gradients of the states", bands, range(len(found.state_norms)))
    caption = "Left: line, mean over the samples; band, from the smallest to the largest. Right: of the whole batch."
    drawing = Drawing("gradients.png", figure, title, alt, caption)
    parameters = {name: norms.tolist() for name, norms in found.parameter_norms.items()}
    numbers = {"loss": found.loss, "states": plain(bands), "parameters": parameters}
    return Finding("gradients", title, text, numbers, {}, [], [drawing])


def gradients_of(stages: Stages, y0: Tensor, loss: Callable[[Tensor], Tensor]) -> Gradients:
    """The gradients of a loss by state, and by the weights of every layer.

    Args:
        stages: read in evaluation mode.
        y0: the state before the first.
        loss: from the last state to one number.
    """
    found = gradients(stages.links(), y0, loss)
    weights = [stage.flow.weight for stage in stages.flows if stage.flow.layers]
    of_weights = torch.autograd.grad(loss(stages(y0)), weights)
    norms = [torch.linalg.vector_norm(g.reshape(len(g), -1), dim=-1) for g in of_weights]  # of each layer
    return dataclasses.replace(found, parameter_norms={"weight": torch.cat(norms)})


def factors(stages: Stages) -> Sequence[tuple[str, object]]:
    """What stages are made of, for the report."""
    first = stages.flows[0]
    return [
        ("layers", "-".join(str(stage.flow.layers) for stage in stages.flows)),
        ("channels", "-".join(str(stage.flow.features) for stage in stages.flows)),
        ("step", first.flow.step),
        ("normalization", str(first.normalization)),
        *factors_of(first.flow).items(),
        ("activation", repr(first.flow.activation)),
        ("computed in", str(first.flow.weight.dtype).removeprefix("torch.")),
    ]
