"""What every finished page must have: a title of its own, and a text for each picture that says what is seen."""

from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)
# Shorter ones name a picture, but do not say what is seen.
SHORTEST = 25


class Page(HTMLParser):
    """Title and pictures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title, self.pictures, self._in_title = "", [], False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a picture says."""
        self._in_title = tag == "title" and not self.title
        if tag == "img":
            self.pictures.append((dict(attributes).get("src") or "", dict(attributes).get("alt") or ""))

    def handle_data(self, text: str) -> None:
        """Note the title."""
        if self._in_title:
            self.title, self._in_title = text, False


def name_thumbnails(app: Sphinx, doctree: nodes.document) -> None:
    """The overview of the gallery leaves its pictures without a text; there, it is the name of the example."""
    for picture in doctree.findall(nodes.image):
        if "thumb" in picture["uri"] and not picture.get("alt"):
            example = Path(picture["uri"]).stem.removeprefix("sphx_glr_").removesuffix("_thumb")
            picture["alt"] = f"A figure of the example “{example.replace('_', ' ')}”, made small."


def check(app: Sphinx, error: Exception | None) -> None:
    """Warn of pages that lack what they must have; in a strict build that fails it."""
    if error is not None or app.builder.name != "html":
        return
    titled = defaultdict(list)
    for name in sorted(app.env.found_docs):  # not what else lies in the folder: pages of an earlier build, long gone
        page = Page((Path(app.outdir) / f"{name}.html").read_text(encoding="utf-8"))
        titled[page.title].append(name)
        for source, text in page.pictures:
            if len(text.strip()) < SHORTEST:
                _log.warning("%s: the picture %s has no text that says what is seen: %r", name, source, text)
    for title, names in titled.items():
        if len(names) > 1:
            _log.warning("Pages share the title %r: %s", title, ", ".join(names))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("doctree-read", name_thumbnails)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
