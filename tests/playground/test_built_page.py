"""The page that is shipped was built of these sources, is small, and lets nothing in."""

import base64
import gzip
import hashlib
import importlib.util
import io
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from hdnn.playground import page as pages
from hdnn.playground.page import page

SCRIPT = Path(__file__).parents[2] / "playground" / "build.py"
specification = importlib.util.spec_from_file_location("build_playground", SCRIPT)
build = importlib.util.module_from_spec(specification)
specification.loader.exec_module(build)


def test_it_was_built_of_these_sources():
    assert build.is_fresh(), "csrc/ or playground/ changed since the page was built. Run: make playground"


def test_what_can_be_built_without_a_compiler_is_what_is_there():
    assert build.program("program.js") in page()


@pytest.mark.slow
def test_building_it_again_gives_the_same_bytes():
    pytest.importorskip("ziglang", reason="ziglang is not installed (pip install ziglang), which compiles the page.")
    with tarfile.open(fileobj=io.BytesIO(build.packed())) as new, tarfile.open(build.PAGE) as there:
        assert new.getnames() == there.getnames()
        assert all(new.extractfile(name).read() == there.extractfile(name).read() for name in new.getnames())


def test_it_is_small():
    assert len(gzip.compress(page().encode(), 9)) <= 170_000  # what a browser loads
    assert build.PAGE.stat().st_size <= 115_000  # of an archive


def test_kernels_of_other_sources_are_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PAGE", tmp_path / "page.tar.xz")
    assert not build.is_fresh()  # none
    monkeypatch.setattr(build, "kernels", lambda: b"\0asm")
    build.PAGE.write_bytes(build.packed())
    assert build.is_fresh()
    monkeypatch.setattr(build, "digest", lambda: 64 * "0")
    build.PAGE.write_bytes(build.packed())
    monkeypatch.undo()
    monkeypatch.setattr(build, "PAGE", tmp_path / "page.tar.xz")
    assert not build.is_fresh()


def test_a_missing_page_and_a_python_without_xz_are_said(tmp_path, monkeypatch):
    def fails(*args, **options):
        raise tarfile.CompressionError("lzma module is not available")

    monkeypatch.setattr(pages.tarfile, "open", fails)
    with pytest.raises(OSError, match="packed by xz, which this Python was built without"):
        pages._whole.__wrapped__()
    monkeypatch.setattr(pages.resources, "files", lambda name: tmp_path)
    with pytest.raises(OSError, match="`make playground`; else install hdnn again"):
        pages._whole.__wrapped__()


def test_its_policy_lets_nothing_in():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page())[1]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["worker-src"] == ["blob:"]
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & {each for rule in rules.values() for each in rule}
    script = re.findall(r"<script>(.*?)</script>", page(), re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", page(), re.DOTALL)
    for name, texts in (("script-src", script), ("style-src", style)):
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
        assert len(hashes) == 1
        assert set(hashes) <= set(rules[name])


def test_it_names_no_other_place_than_links():
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page()))
    assert addresses <= {"https://pypi.org/project/hdnn/"}


@pytest.mark.parametrize(
    "wrong",
    [
        'import x from "./random.js";',
        'import { no } from "./random.js";',
        "const generator = 1;",
        "let one = 1, generator = 2;",
    ],
)
def test_modules_that_cannot_be_joined_are_refused(monkeypatch, tmp_path, wrong):
    folder = tmp_path / "page"
    folder.mkdir()
    shutil.copy(SCRIPT.parent / "page" / "random.js", folder)
    (folder / "entry.js").write_text(f'import {{ generator }} from "./random.js";\n{wrong}\n', encoding="utf-8")
    monkeypatch.setattr(build, "HERE", tmp_path)
    with pytest.raises(ValueError, match=r"entry\.js"):
        build.program("entry.js")
