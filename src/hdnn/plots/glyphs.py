"""Words in figures: what no font at hand can draw is spelt out, so that nothing is drawn as an empty box."""

from __future__ import annotations

from functools import lru_cache

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

# Fonts with the signs of other scripts, as systems call them; those that are there help out.
_OTHERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic", "PingFang SC", "Hiragino Sans",
    "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Emoji",
    "Symbola", "FreeSans",
)  # fmt: skip


def write(*texts: Text) -> None:
    """Let texts be drawn as they stand, without mathematics, in the fonts that know their signs."""
    for text in texts:
        text.set(text=drawable(text.get_text()), fontfamily=_families(), parse_math=False)


def drawable(text: str) -> str:
    r"""Text with the code of every sign that cannot be drawn in its place.

    Example:
        >>> drawable("größer\x07")
        'größer\\x07'
    """
    if text.isascii() and text.isprintable():
        return text
    fonts = [_signs(findfont(FontProperties(family=[name]))) for name in _families()]
    return "".join(
        sign
        if sign == "\n" or (sign.isprintable() and any(ord(sign) in font for font in fonts))
        else sign.encode("unicode_escape").decode()
        for sign in text
    )


def _families() -> tuple[str, ...]:
    """The user's fonts first, then those that help out."""
    return (*matplotlib.rcParams["font.family"], *_helpers())


@lru_cache
def _helpers() -> tuple[str, ...]:
    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _OTHERS if name in there)


@lru_cache
def _signs(font: str) -> frozenset[int]:
    return frozenset(get_font(font).get_charmap())
