"""What the analysis refuses before it computes."""

from __future__ import annotations

import math

import pytest
import torch

from families import F64, PRESETS, Factors, preset, random, skew
from hdnn.analysis.inputs import check_vectors, check_weights, skew_matrix


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_every_parameter_is_looked_at(name: str, value: float) -> None:
    check_weights(preset(name))
    for parameter in ("weight", "bias"):
        flow = preset(name)
        with torch.no_grad():
            getattr(flow, parameter)[1].flatten()[-1] = value
        with pytest.raises(ValueError, match=rf"`flow.{parameter}` has NaN or infinite entries from layer 1 on"):
            check_weights(flow)


def test_what_all_layers_share_names_no_layer() -> None:
    flow = preset("h1", shared=True)
    with torch.no_grad():
        flow.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="infinite entries, so nothing"):
        check_weights(flow)
    flow = Factors("Dense", "Learned", "ForwardEuler").flow(4, 3)
    with torch.no_grad():
        flow.interconnection_weight[0] = math.inf
    with pytest.raises(ValueError, match=r"`flow\.interconnection_weight` has NaN or infinite entries, so nothing"):
        check_weights(flow)


def test_images() -> None:
    check_vectors(preset("h1"), "This")
    with pytest.raises(ValueError, match=r"This is for flows on vectors; .*Images\(kernel_size=1\)`\. A pointwise"):
        check_vectors(preset("h1", kernel_size=1), "This")


def test_skew_matrices() -> None:
    J = skew(4)
    assert torch.equal(skew_matrix(J.float(), 4), J.float())
    skew_matrix(J.float().double() + 1e-9 * random(4, 4), 4)  # rounding of a file in lower precision
    with pytest.raises(ValueError, match=r"\|J \+ Jᵀ\| reaches 2"):
        skew_matrix(torch.eye(4, dtype=F64), 4)
