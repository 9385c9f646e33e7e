"""What goes to an index: a source archive of what is needed, with notices, and a README whose links lead somewhere."""

import os
import re
import tarfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST = 1_031_500  # bytes of the archive, which `make dist` packs 3.6 % smaller: this warns 6 kB before 1 MB


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    build = pytest.importorskip("scikit_build_core.build")
    folder = tmp_path_factory.mktemp("archive")
    before = Path.cwd()
    os.chdir(ROOT)  # as a builder does
    try:
        return folder / build.build_sdist(str(folder))
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def about(archive):
    with tarfile.open(archive) as opened:
        (name,) = [name for name in opened.getnames() if name.endswith("/PKG-INFO")]
        return message_from_string(opened.extractfile(name).read().decode())


def test_the_archive_is_small_and_holds_what_is_needed(archive):
    with tarfile.open(archive) as opened:
        members = [member for member in opened.getmembers() if member.isfile()]
    names = {member.name.partition("/")[2] for member in members}
    inside = {name.split("/")[0] for name in names}
    assert inside == {"src", "csrc", "licenses"} | {
        "CITATION.cff",
        "CMakeLists.txt",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
    }
    assert {"src/hdnn/py.typed", "src/hdnn/templates/report.html", "src/hdnn/playground/page.tar.xz"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".so", ".pyd"))]
    assert max(member.size for member in members) < MOST
    assert archive.stat().st_size <= MOST


def test_every_notice_goes_along(about):
    notices = {f"licenses/{path.name}" for path in (ROOT / "licenses").iterdir()} | {"LICENSE"}
    assert set(about.get_all("License-File")) == notices
    listed = (ROOT / "licenses" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{Path(name).name}`" in listed for name in notices - {"licenses/README.md"})


def test_an_index_gets_no_link_into_the_repository(about):
    text = about.get_payload()
    assert "hdnn.h2(" in text
    links = re.findall(r"\]\(([^)\n]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert [link for link in links if not re.match(r"https?://", link)] == []
