"""What the pages of Sphinx, its theme and its gallery lack for readers who hear them; axe finds it.

Captions of the navigation are headings without a level, the parameters of a signature a list of definitions without
terms, and the links of the gallery have their names beside them.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

_CAPTION = '<p class="caption" role="heading">'
_PARAMETERS = re.compile(r"<dl>\n((?:<dd><em class=\"sig-param\">.*?</dd>\n)+)</dl>", re.S)
_THUMBNAIL = re.compile(
    r'(<p><a class="reference internal" )(href="[^"]*"><span class="[^"]*">([^<]*)</span></a></p>\s*<div class="sphx)'
)


def mended(page: str) -> str:
    """A page with levels, lists and names; the same again, if it has them."""
    page = page.replace(_CAPTION, _CAPTION.replace(">", ' aria-level="2">'))
    page = _PARAMETERS.sub(_lines, page)
    return _THUMBNAIL.sub(r'\1aria-label="\3" \2', page)


def _lines(found: re.Match[str]) -> str:
    lines = found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">\n{lines}</span>'


def mend(app: Sphinx, error: Exception | None) -> None:
    """All pages, when they are written."""
    if error is None and app.builder.name == "html":
        names = [*app.env.found_docs, "search", "genindex"]
        for path in (Path(app.outdir) / f"{name}.html" for name in names):
            page = path.read_text(encoding="utf-8")
            if (other := mended(page)) != page:
                path.write_text(other, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("build-finished", mend, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
