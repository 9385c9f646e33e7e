"""What a docstring needs on its way to a page: signs that stay signs.

Docstrings are written for people who read the source: |det F| is a determinant there, and (N, *shape) a shape.
reStructuredText takes both for markup.
"""

import re

from sphinx.application import Sphinx


def plain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape what is text, but not in code: between backticks, and from >>> to the next empty line."""
    in_example = False
    for i, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example:
            parts = re.split("(`[^`]*`)", line)
            lone_star = sum(part.count("*") for part in parts[::2]) == 1
            parts[::2] = [_escaped(part, lone_star) for part in parts[::2]]
            lines[i] = "".join(parts)
        if i and lines[i - 1].strip() == "Returns:":
            # Napoleon takes what stands before a colon for a type. Here types stand in signatures, so that is empty.
            lines[i] = re.sub(r"^(\s*)", r"\1: ", lines[i])


def _escaped(text: str, lone_star: bool) -> str:
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text.replace("|", r"\|"))
    return re.sub(r"(?<!\\)\*", r"\\*", text) if lone_star else text


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("autodoc-process-docstring", plain, priority=400)  # before Napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
