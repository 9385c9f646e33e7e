"""The one door to the disk: files appear whole or not at all, and only plain files and folders of our own are touched.

A link, a device, a named pipe or a folder that stands where a file should go is left alone and named in the error; a
file that is replaced keeps its owner and its mode. Nothing is written into the package, whatever path leads there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hdnn.locks import lock

_PACKAGE = Path(__file__).parent
_LONGEST = 160  # bytes of a name that stay in the name of the file beside it; system calls take 255


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part.

    The content goes to a new file beside it, reaches the disk, and then takes the name. After a failure the old file
    is untouched and nothing is left behind; only a process that is killed in between leaves the new file, which the
    next write of that name removes, and which `leftovers` finds.

    Args:
        path: the file; its folder must exist.
        content: bytes, or text to be written as UTF-8.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if the folder is missing.
        IsADirectoryError: if the path is a folder.
        OSError: if it is no plain file, is not writable, or the disk is full.
    """
    with writing_whole(path) as write:
        write(content)
    return Path(path)


@contextmanager
def writing_whole(path: str | os.PathLike[str]) -> Iterator[Callable[[bytes | str], None]]:
    """Write a file piece by piece as `write_whole` does: it takes its name at the end, unless there was an error.

    Args:
        path: the file; its folder must exist.

    Yields:
        A function that writes the next piece.

    Raises:
        OSError: as `write_whole`.
    """
    place = Path(path)
    require_writable(place)
    old = _existing(place)
    sweep(place.parent, {place.name})
    # Nobody may read in the new file what they may not read in the old one, not even for a moment.
    with _named(place):
        aside, handle = _new_beside(place, 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o777)
    stream = os.fdopen(handle, "wb")

    def write(content: bytes | str) -> None:
        with _named(place):
            stream.write(content.encode() if isinstance(content, str) else content)

    try:
        if old is not None:
            _make_alike(stream.fileno(), old)
        yield write
        with _named(place):
            stream.flush()
            os.fsync(stream.fileno())
            if os.name == "nt":  # which moves no open file
                stream.close()
            require_writable(place)  # it may have become something else meanwhile
            aside.replace(place)
            sync_folder(place.parent)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            stream.close()


def require_writable(path: Path) -> None:
    """See that a file can be written there or replaced: that it is a plain file or new, in a folder.

    Raises:
        OSError: in words that name what is there instead.
    """
    if "\0" in str(path):
        raise OSError(f"{str(path)!r} holds the letter NUL, which no name of a file can. Choose another name.")
    if not path.name:
        raise IsADirectoryError(f"{path} is a folder, so no file can take its name. Name a file in it.")
    require_outside(path.parent)
    with _named(path):
        parent = path.parent.is_dir()
        what = kind(path)
    if not parent:
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name} to. Create it.")
    if what == "a folder":
        raise IsADirectoryError(f"{path} is a folder, so no file can take its name. Name a file in it.")
    if what not in ("", "a file"):
        raise OSError(f"{path} is {what}, and only plain files are replaced; nothing was changed. Name another file.")


def require_outside(folder: Path) -> None:
    """See that a folder in which something is to be written is none of the installed package, nor leads there by links.

    Raises:
        PermissionError: if it is or does.
    """
    # `Path.resolve` would raise at circles of links.
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(_PACKAGE)):
        raise PermissionError(f"{folder} lies in the hdnn package, where nothing is written. Name another place.")


def require_new(path: Path, *, overwrite: bool) -> None:
    """See before any work that a file can be written there, and that none is there unless it may be replaced.

    Raises:
        FileExistsError: if it is there.
        OSError: as `require_writable`.
    """
    require_writable(path)
    if kind(path) and not overwrite:
        raise FileExistsError(f"{path} exists; nothing was changed. Choose another name, or give `overwrite=True`.")


def require_apart(path: Path, read: Iterable[Path]) -> None:
    """See that a file to be written is none of those that are read, for these would be lost.

    Args:
        path: of the file.
        read: files; those that are not there do not count.

    Raises:
        FileExistsError: if it is one of them, by whatever path.
    """
    for each in read:
        try:
            same = os.path.samefile(path, each)
        except (OSError, ValueError):
            continue  # one of the two is not there
        if same:
            raise FileExistsError(
                f"{path} is read here, or belongs to a run that is, and would be lost; nothing was changed. Name "
                f"another file."
            )


def kind(path: Path) -> str:
    """What stands at a path, without following a link: "a file", "a folder", a word for the rest, "" for nothing."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(mode):
        return f"a link to {os.readlink(path)}"
    words = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return words.get(stat.S_IFMT(mode), "a device")


def require_makeable(folder: Path) -> None:
    """See before any work that a folder is there or can be made, and written to.

    Raises:
        OSError: in words that name what is in the way.
    """
    nearest = next((each for each in (folder, *folder.parents) if kind(each)), Path())
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"{folder} cannot be written: {nearest} is {kind(nearest)}, and no folder. Choose another folder."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written: {nearest} is closed to you. Choose another folder.")


def make_folder(folder: Path) -> Path:
    """Make a folder with its parents, so that their names have reached the disk.

    Returns:
        The folder.

    Raises:
        OSError: if it cannot be made, or lies in the package.
    """
    require_outside(folder)
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)
    return folder


def require_own(folder: Path, files: Collection[str] = (), folders: Collection[str] = ()) -> None:
    """See that what is about to be replaced or removed in a folder is what hdnn writes there.

    Args:
        folder: where they are.
        files: names that must be plain files, or nothing.
        folders: names that must be folders, or nothing; links to folders lead to what is not ours.

    Raises:
        FileExistsError: in words that name what is there instead.
        PermissionError: if the folder lies in the package.
    """
    require_outside(folder)
    for expected, names in (("a file", files), ("a folder", folders)):
        for name in names:
            found = kind(folder / name)
            if found not in ("", expected):
                raise FileExistsError(
                    f"{folder / name} is {found}, where hdnn would write {expected}; nothing was changed. Move it "
                    f"away, or choose another folder."
                )


def leftovers(folder: Path, names: Collection[str]) -> list[Path]:
    """Files that `write_whole` left in a folder where its process was killed.

    Args:
        folder: where to look.
        names: of the files that were to be written; of others nothing is found.
    """
    return list(_left(folder, names, remove=False))


def sweep(folder: Path, names: Collection[str]) -> None:
    """Remove what `leftovers` finds."""
    list(_left(folder, names, remove=True))


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk as well, where the system can be asked to."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _beside(name: str) -> str:
    return f".{_short(name)}.{_proof(name, uuid.uuid4().hex[:16])}"


def _new_beside(place: Path, mode: int) -> tuple[Path, int]:
    """A new open file, locked until it is closed: who finds it unlocked knows that its writer has ended."""
    while True:
        aside = place.with_name(_beside(place.name))
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            lock(handle)
            lost = not aside.exists()
        except BlockingIOError:
            lost = True
        except OSError:
            lost = False  # the file system knows no locks, and nothing is swept there
        if not lost:
            return aside, handle
        os.close(handle)


def _proof(name: str, token: str) -> str:
    """A random token with what shows that `_beside` made it for that name: no file of anybody else ends so."""
    return token + hashlib.sha256(f"hdnn {token} {name}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _short(name: str) -> str:
    letters = name.encode("utf-8", "surrogateescape")
    return name if len(letters) <= _LONGEST else hashlib.sha256(letters).hexdigest()


def _left(folder: Path, names: Collection[str], *, remove: bool) -> Iterator[Path]:
    asked = {_short(name): name for name in names}
    for path in folder.glob(".*"):
        name, _, suffix = path.name[1:].rpartition(".")
        if name not in asked or suffix != _proof(asked[name], suffix[:16]):
            continue
        handle = _taken(path)
        if handle is None:
            continue
        try:
            if remove:
                # While it is locked: a writer that has just made it gets the lock next and sees that it lost its name.
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            yield path
        finally:
            os.close(handle)


def _taken(path: Path) -> int | None:
    """A plain file whose writer has ended, open and locked; None if it is anything else."""
    if kind(path) != "a file":
        return None
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        lock(handle)
    except OSError:
        os.close(handle)
        return None
    return handle


def _existing(place: Path) -> os.stat_result | None:
    try:
        return place.stat()
    except FileNotFoundError:
        return None


def _make_alike(handle: int, old: os.stat_result) -> None:
    """Give an open file the owner and the mode of another, as far as the system allows."""
    if os.name == "nt":
        return
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(OSError):
            os.fchown(handle, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(handle, stat.S_IMODE(old.st_mode) & 0o777)


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Errors of the system speak of the file beside it, which nobody asked for: name the file itself."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(place)) from error
