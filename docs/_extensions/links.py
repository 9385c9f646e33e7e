"""Links from a name in backticks to where it is documented, whichever page and module it stands in.

Docstrings and pages write `Flow` or `hdnn.Flow`. Sphinx looks for names of docstrings in the module that it documents,
and takes those of Markdown pages for code and nothing more.
"""

from docutils import nodes
from docutils.nodes import Element, TextElement
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# A bare name is one of the first two; those of the others are written with their module.
MODULES = ("hdnn.", "hdnn.analysis.", "")


def of_docstring(app: Sphinx, environment: BuildEnvironment, node: Element, content: TextElement) -> Element | None:
    """The link to a public name of another module, or nothing where none is meant."""
    return _link(app, environment, node.get("reftarget", ""), node["refdoc"], content)


def of_page(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Make links of the names among the pieces of code on a page."""
    for code in list(doctree.findall(nodes.literal)):
        if "xref" not in code["classes"] and not isinstance(code.parent, nodes.reference):
            link = _link(app, app.env, code.astext().removesuffix("()"), page, code.deepcopy())
            if link is not None:
                code.replace_self(link)


def _link(app: Sphinx, environment: BuildEnvironment, name: str, page: str, content: TextElement) -> Element | None:
    objects = environment.get_domain("py").objects
    places = [objects.get(module + name) for module in MODULES]
    for place in places:
        if place is not None and place.objtype != "module":
            uri = app.builder.get_relative_uri(page, place.docname)
            return nodes.reference("", "", content, refuri=f"{uri}#{place.node_id}", internal=True)
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("missing-reference", of_docstring)
    app.connect("doctree-resolved", of_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
