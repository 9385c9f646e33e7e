"""Build the playground: csrc as WebAssembly, modules, style, and a policy that lets nothing in.

    python playground/build.py            writes the file below; needs ziglang (constraints.txt) only
    python playground/build.py --check    says whether it was built from these sources

`hdnn.playground.page` puts the kernels into the page. Beside it, and packed by xz with it, they take half the room in
archives of the package that they take in the page. There is one set of them, with the instructions for vectors that
Chrome has had since 2021 and Safari since 2023.

Modules are joined in the order in which they need each other: `import { a } from "./b.js"` and `export` before a
declaration are all that is understood, and no two modules of a program may declare the same name.
"""

from __future__ import annotations

import base64
import hashlib
import io
import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = ROOT / "src" / "hdnn" / "playground" / "page.tar.xz"
MARK = re.compile(r'<meta name="hdnn-sources" content="([0-9a-f]{64})">')

# -Os: a third smaller than -O3, and as fast.
_FLAGS = [
    "-target",
    "wasm32-wasi",
    "-std=gnu++17",
    "-Os",
    "-fno-rtti",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffunction-sections",
    "-fdata-sections",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-division-by-zero",
    "-DHDNN_SQUARE_BYTES=4",  # doubles only measure: code of their own for small sizes would be a quarter of the page
    "-msimd128",
    "-DHDNN_VECTOR_BYTES=16",
]
_NAMED = {
    "csrc/kernel.cpp": ["-DHDNN_KERNEL=kernel_baseline", '-DHDNN_KERNEL_NAME="baseline"'],
    "csrc/step.cpp": ["-DHDNN_STEP=step_baseline", '-DHDNN_KERNEL_NAME="baseline"'],
    "csrc/flow.cpp": [],
    "csrc/training.cpp": [],
    "playground/kernels/network.cpp": [],
    "playground/kernels/alone.cpp": [],
}


def sources() -> list[Path]:
    """All files that the page is made of."""
    csrc = [path for path in (ROOT / "csrc").glob("*.[ch]pp") if path.name != "module.cpp"]
    return sorted([*csrc, *(path for path in HERE.rglob("*") if path.suffix in _SUFFIXES)])


_SUFFIXES = {".cpp", ".hpp", ".py", ".js", ".css", ".html"}


def digest() -> str:
    """A hash of all sources."""
    found = hashlib.sha256()
    for path in sources():
        found.update(f"{path.relative_to(ROOT).as_posix()}\n".encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return found.hexdigest()


def kernels() -> bytes:
    """The module of WebAssembly."""
    zig = [sys.executable, "-m", "ziglang", "c++"]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, more in _NAMED.items():
            objects.append(str(Path(folder) / f"{Path(name).stem}.o"))
            alone = ["-include", str(HERE / "kernels" / "alone.hpp")]
            subprocess.run([*zig, *_FLAGS, *alone, *more, "-c", str(ROOT / name), "-o", objects[-1]], check=True)
        made = Path(folder) / "page.wasm"
        link = ["-target", "wasm32-wasi", "-mexec-model=reactor", "-Os", "-Wl,--gc-sections", "-Wl,--strip-all"]
        subprocess.run([*zig, *link, *objects, "-o", str(made)], check=True)
        return made.read_bytes()


# Instructions of WebAssembly stand at any place: pb=0.
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "pb": 0}]
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([^"]+)";\n', re.MULTILINE)
_DECLARED = re.compile(r"^(?:export )?(?:async )?(?:function\*?|class|const|let) (\w+)(.*)", re.MULTILINE)
_COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)  # a tenth of the program; they are for who reads the modules
_ALSO = re.compile(r", (\w+) = ")  # const a = 1, b = 2


def program(entry: str) -> str:
    """The modules that one needs, and itself, as one script.

    Raises:
        ValueError: if two declare the same name, or a name is imported that its module does not export.
    """
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...] = ()) -> None:
        if name in order:
            return
        if name in above:
            raise ValueError(f"Modules need each other in a circle: {' → '.join((*above, name))}.")
        text = (HERE / "page" / name).read_text(encoding="utf-8")
        for names, other in _IMPORT.findall(text):
            theirs = (HERE / "page" / other).read_text(encoding="utf-8")
            for each in filter(None, (word.strip() for word in names.split(","))):
                if not re.search(rf"^export (?:async )?(?:function\*?|const|let|class) {each}\b", theirs, re.MULTILINE):
                    raise ValueError(f"{name} imports {each}, which {other} does not export.")
            visit(other, (*above, name))
        order.append(name)

    visit(entry)
    declared: dict[str, str] = {}
    parts = []
    for name in order:
        text = (HERE / "page" / name).read_text(encoding="utf-8")
        for each in (word for first, rest in _DECLARED.findall(text) for word in (first, *_ALSO.findall(rest))):
            if each in declared:
                raise ValueError(f"{name} and {declared[each]} both declare {each}.")
            declared[each] = name
        body = re.sub(r"^export ", "", _COMMENT.sub("", _IMPORT.sub("", text)), flags=re.MULTILINE)
        if re.search(r"^(import|export)\b", body, re.MULTILINE):
            raise ValueError(f"{name} imports or exports in a way that is not understood here.")
        parts.append(f"// {name}\n{body.strip()}\n")
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def policy(script: str, style: str) -> str:
    """A content security policy by hashes: nothing else runs, and nothing is asked of any server."""

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {hashed(script)} 'wasm-unsafe-eval'; style-src {hashed(style)}; "
        "worker-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )


def build() -> str:
    """The page, but for its kernels."""
    style = (HERE / "page" / "style.css").read_text(encoding="utf-8")
    script = program("program.js")
    if "</script" in script:
        raise ValueError("A module says </script, which would end it.")
    parts = {"POLICY": policy(script, style), "SOURCES": digest(), "STYLE": style, "PROGRAM": script}
    page = (HERE / "page" / "index.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: parts.get(found[1], found[0]), page)


def packed() -> bytes:
    """The page, which names the hash of what it was built from, and its kernels."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in {"index.html": build().encode(), "kernels.wasm": kernels()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(made.getvalue(), filters=_XZ)


def is_fresh() -> bool:
    """Whether the built file is of these sources."""
    if not PAGE.is_file():
        return False
    with tarfile.open(PAGE) as archive:
        found = MARK.search(archive.extractfile("index.html").read(4096).decode(errors="replace"))
    return found is not None and found[1] == digest()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if is_fresh() else f"{PAGE.parent} was built from other sources. Run: make playground")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_bytes(packed())
    print(f"{PAGE}: {PAGE.stat().st_size:,} bytes")
