"""Python words, which no line of the command line may show."""

import ast
import re

PYTHON = re.compile(
    r"\b[A-Z][a-z]+[A-Z]\w*"  # a class
    r"|\b\w+\(\)|\b[A-Z]\w+\("  # a call
    r"|\b\w+=(?![=\s])"  # a keyword
    r"|\bNone\b|\bTrue\b|\bFalse\b"
    r"|\b[a-z]+(?:_[a-z]+)+\b"  # a name of a variable
    r"|`|\*\*|\btorch\.|\[\.\.\.\]"
)
# Names of products and of choices, mathematics, and what cells of a table may hold.
PROPER = re.compile(
    r"NaN, None and null|CLASS=WEIGHT|None can|PyTorch|ResNets?|AdamW|TensorBoard|GiB|MiB"
    r"|leaky_relu|upper_ones|(forward|symplectic)_euler|stormer_verlet|implicit_midpoint|runge_kutta4|gauss_legendre|discrete_gradient"
    r"|\bH\(|\bNaN\b|[dy∂]+_[Nj0]|[\w.-]*\.(csv|json)|'[^']*'"
)


def python_words(text):
    """The Python words of a text."""
    return PYTHON.findall(PROPER.sub("", text))


def text_of(node):
    """What an expression of the source says, with `name` for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(each.value if isinstance(each, ast.Constant) else "name" for each in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ""
