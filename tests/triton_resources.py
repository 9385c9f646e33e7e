"""Programs of the Triton backend compiled for devices that are not here, and what they would take of them.

`python tests/triton_resources.py 90 float32 4096 4 8 16` prints a line of JSON for every program of flows of these
sizes at 4,096 samples; the interpreter must be off (TRITON_INTERPRET).
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import hdnn
from hdnn.kernels import programs
from triton_cases import Launch, launched

POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64"}


def resources(launch: Launch, capability: int) -> dict[str, Any]:
    """Registers and stack of a thread, and shared memory of a program, in bytes."""
    import triton  # where it is not installed, doctests still import this file
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    name, given = launch
    program = getattr(programs, name)
    signature, constants, attributes = {}, {}, {}
    for place, argument in enumerate(program.arg_names):
        value = given[argument]
        if argument.isupper() and argument != "W":
            signature[argument], constants[argument] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[argument] = POINTERS[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "fp32" if isinstance(value, float) else "i32"
    source = ASTSource(program, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": given.get("num_warps", 4), "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        said = subprocess.run([cuobjdump, "--dump-resource-usage", file.name], capture_output=True, text=True).stdout
    found = {key.lower(): int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}
    return {**found, "shared": compiled.metadata.shared, "ptx": compiled.asm["ptx"]}


def rows(capability: int, samples: int, sizes: list[int], dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """Both programs of `h1` and `h2` for some numbers of features."""
    for n, make in itertools.product(sizes, (hdnn.h1, hdnn.h2)):
        for launch in launched(make(n, 8, step=0.1), samples, dtype)[:2]:
            found = resources(launch, capability)
            del found["ptx"]
            shape = {key: launch[1][key] for key in ("F", "U", "S", "num_warps")}
            of = {"program": launch[0], "n": n, "samples": samples, "dtype": str(dtype)[6:], "sm": capability}
            yield {**of, **shape, **found}


def main(capability: int, kind: str, samples: int, sizes: list[int]) -> None:
    for row in rows(capability, samples, sizes, getattr(torch, kind)):
        print(json.dumps({"triton": version("triton"), **row}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), [int(word) for word in sys.argv[4:]])
