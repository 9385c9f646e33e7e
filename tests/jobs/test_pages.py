"""Unused memory goes back to the system, where the C library can be told so."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from hdnn.jobs import pages

# Alone in its process: what imports leave would take the small ones in.
CODE = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("pages", {pages.__file__!r})
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

large, small = [], []
for _ in range(600):
    large.append(bytearray(b"x" * 100_000))
    small.append(bytearray(b"x" * 3_000))  # stays, and lies between
full = held()
large.clear()
kept = held()
pages.hand_back()
print(full, kept, held())
"""


@pytest.mark.long
@pytest.mark.skipif(pages._call() is bool, reason="needs the C library of GNU")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_what_small_things_held_is_handed_back() -> None:
    out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    full, kept, left = map(float, out.stdout.split())
    assert kept > full - 30
    assert left < full - 40


def test_without_such_a_call_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    pages._call.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    try:
        pages.hand_back()
    finally:
        pages._call.cache_clear()
