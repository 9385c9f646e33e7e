"""The public names of hdnn, with parameters and members, as `golden/public-names.txt` stores them.

python tests/public_names.py    writes the list: what it lost is a broken promise, see docs/stability.md
"""

from pathlib import Path

import griffe

import hdnn

ROOT = Path(__file__).parent.parent
STORED = ROOT / "tests" / "golden" / "public-names.txt"


def found() -> list[str]:
    """One line a name: `hdnn.Flow(features, layers, *, step, ...)`, `hdnn.Flow.inverse(y)`, `hdnn.Flow.weight`."""
    package = griffe.load("hdnn", search_paths=[ROOT / "src"])
    lines = set()
    for name in hdnn.__all__:
        if name not in hdnn._SUBMODULES:
            lines |= _lines(f"hdnn.{name}", package[name])
            continue
        module = getattr(hdnn, name)
        own = [inner for inner, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        for inner in getattr(module, "__all__", own):
            if not inner.startswith("_"):
                lines |= _lines(f"hdnn.{name}.{inner}", package[name][inner])
    lines |= _lines("hdnn.presets.Options", package["presets"]["Options"])
    return sorted(lines)


def _lines(name: str, part: griffe.Object | griffe.Alias) -> set[str]:
    part = part.final_target if part.is_alias else part
    if part.is_function:
        return {f"{name}({_parameters(part.parameters)})"}
    if not part.is_class:
        return {name}
    lines = {f"{name}({_parameters(part.parameters)})"}
    for inner, member in part.all_members.items():
        if not inner.startswith("_") and (not member.is_alias or member.inherited) and member.path.startswith("hdnn"):
            lines |= _lines(f"{name}.{inner}", member) if not member.is_class else {f"{name}.{inner}"}
    return lines


def _parameters(parameters: griffe.Parameters) -> str:
    """Names and kinds, as in a signature; `=` marks what has a default."""
    words, starred = [], False
    for each in parameters:
        if each.name == "self":
            continue
        if each.kind is griffe.ParameterKind.keyword_only and not starred:
            words.append("*")
        mark = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(each.kind, "")
        starred = starred or each.kind in (griffe.ParameterKind.var_positional, griffe.ParameterKind.keyword_only)
        words.append(f"{mark}{each.name}{'' if each.required or mark else '='}")
    return ", ".join(words)


if __name__ == "__main__":
    STORED.write_text("\n".join(found()) + "\n", encoding="utf-8")
