"""Formulas as MathML, which browsers draw themselves: no script, no font and no network."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)
# What docutils sets otherwise than TeX: the size of bars; primes, fractions in a line, the space after log.
_BARS = re.compile(r"(?<!left)(?<!right)\\([lr])([vV]ert)(?![A-Za-z])")
_SIDES = {"l": "left", "r": "right"}
_AFTER_NAME = re.compile(r"<mo>&ApplyFunction;</mo>(?!\s*(<mrow>\s*)?<mo[^>]*>\()")


def inline(translator: Any, node: nodes.math) -> None:
    """A formula in a sentence."""
    translator.body.append(_formula(node, as_block=False))
    raise nodes.SkipNode


def displayed(translator: Any, node: nodes.math_block) -> None:
    """A formula on lines of its own."""
    translator.body.append(f'<div class="math">{_formula(node, as_block=True)}</div>')
    raise nodes.SkipNode


def _formula(node: nodes.Element, *, as_block: bool) -> str:
    formula = node.astext()
    try:
        tex = _BARS.sub(lambda bar: rf"\{_SIDES[bar[1]]}\{bar[1]}{bar[2]}", formula)
        mathml = _AFTER_NAME.sub('<mspace width="0.17em"></mspace>', tex2mathml(tex, as_block=as_block))
        return mathml.replace(">/<", ' lspace="0" rspace="0">/<').replace(">'<", ">′<")
    except MathError as error:
        _log.warning("%s In the formula: %s", error, formula, location=node)
        return ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
