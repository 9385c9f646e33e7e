"""One picture file, PNG or JPEG, as bytes of a wanted shape; what is none, or asks for too much, is refused in words.

What is done to a picture, in this order: turned as its EXIF orientation says; the largest part of the wanted shape
around its middle is taken; 16 bits become their higher 8; a palette becomes its colours; what is transparent lies on
white; CMYK becomes RGB by Pillow's plain formula, colour profiles are not looked at; colours become grey (ITU-R 601-2)
or grey three equal channels where the others are so; the part is resized, each new pixel a weighted mean of all old
ones under it (Pillow's BILINEAR). Of a JPEG of several pictures, as telephones write them, the first is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdnn.files import kind

if TYPE_CHECKING:
    from PIL import Image

Bytes = NDArray[np.uint8]

ENDINGS = (".png", ".jpg", ".jpeg")

LARGEST = 2**26
"""Pixels that a picture may have, 8192 x 8192: they are all unpacked at once."""

_LARGEST_FILE = 2**27
_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"RIFF": "a RIFF file, perhaps a webp",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
}
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_WHERE_TURNED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp")  # of a PNG, in the words of Pillow


class Look(NamedTuple):
    """What the head of a picture says.

    Args:
        width: in pixels.
        height: in pixels.
        grey: whether it has no colours.
    """

    width: int
    height: int
    grey: bool


def is_picture(path: Path) -> bool:
    """Whether a file begins as a PNG or JPEG does."""
    with path.open("rb") as stream:
        return stream.read(8).startswith(tuple(_STARTS))


def look(path: Path) -> Look:
    """Read the head of a picture.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no picture that `decode` would take.
    """
    with _opened(path) as image:
        width, height = image.size
        # Of a PNG it may stand behind the pixels, which are not read here.
        said = image.format != "PNG" or any(name in image.info for name in _WHERE_TURNED)
        turned = said and image.getexif().get(_ORIENTATION) in _TURNED
        return Look(*((height, width) if turned else (width, height)), image.mode in _GREY)


def decode(path: Path, shape: tuple[int, int, int]) -> Bytes:
    """Read a picture.

    Args:
        path: PNG or JPEG, whatever its name.
        shape: (C, H, W) that is wanted, C = 1 for grey or 3.

    Returns:
        uint8 (C, H, W).

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no PNG or JPEG, is damaged, animated, or has too many pixels; or if C is another number.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"Pictures have 1 channel or 3, and {channels} are wanted. Give an IDX file of such images.")
    with _opened(path) as image:
        image.load()
        upright = image if image.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
        part = _centre(upright, height / width)
        plain = _opaque(part).convert("L" if channels == 1 else "RGB")
        if plain.size != (width, height):
            plain = plain.resize((width, height), Image.Resampling.BILINEAR)
        values: Bytes = np.asarray(plain, dtype=np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _centre(image: Image.Image, ratio: float) -> Image.Image:
    """The largest part around the middle whose height is `ratio` times its width."""
    w, h = image.size
    width, height = max(1, min(w, round(h / ratio))), max(1, min(h, round(w * ratio)))
    left, top = (w - width) // 2, (h - height) // 2
    return image.crop((left, top, left + width, top + height))


def _opaque(image: Image.Image) -> Image.Image:
    """The same in 8 bits a channel and without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        plain = np.where(values == image.info.get("transparency", -1), 255, (values >> 8).clip(0, 255))
        return Image.fromarray(plain.astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The picture, of which only the head has been read; all that goes wrong with it is a message that names it."""
    from PIL import Image, UnidentifiedImageError

    _require_plain(path)
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which are looked at here, and of marks that decide nothing
        start = stream.read(8)
        stream.seek(0)
        formats = [name for begin, name in _STARTS.items() if start.startswith(begin)]
        if not formats:
            raise ValueError(_no_picture(path, start))
        try:
            with Image.open(stream, formats=formats) as image:
                _require_modest(path, image)
                yield image
        except Image.DecompressionBombError:  # which Pillow raises far above our limit
            raise ValueError(_too_large(path, f"more than {2 * LARGEST:,} pixels")) from None
        except UnidentifiedImageError:
            raise ValueError(
                f"{path} is a damaged {formats[0]} (its head is none). Fetch or save it again, or move it away."
            ) from None
        except _Refused as error:
            raise ValueError(str(error)) from None
        except MemoryError:
            raise
        except Exception as error:  # decoders meet damage in many ways
            why = str(error).partition("\n")[0][:200] or type(error).__name__
            raise ValueError(
                f"{path} is a damaged {formats[0]} ({why}). Fetch or save it again, or move it away."
            ) from None


class _Refused(Exception):
    """A picture that is whole but unfit."""


def _require_plain(path: Path) -> None:
    what = kind(path)
    if not what:
        raise FileNotFoundError(f"There is no file {path}. A picture was expected there.")
    if what != "a file":
        raise ValueError(f"{path} is {what}; pictures are read from plain files alone. Put the picture itself there.")
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path} is empty (0 bytes). Fetch it again, or move it away.")
    if size > _LARGEST_FILE:
        raise ValueError(f"{path} has {size:,} bytes; pictures of at most {_LARGEST_FILE:,} are read. Move it away.")


def _require_modest(path: Path, image: Any) -> None:
    width, height = image.size
    if width * height > LARGEST:
        raise _Refused(_too_large(path, f"{width:,} x {height:,} pixels"))
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise _Refused(
            f"{path} is animated ({image.n_frames} frames), and a picture stands still. Save one frame of it."
        )


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path} announces {size}; at most {LARGEST:,} are read, for they are unpacked at once. Save it smaller, or "
        f"move it away."
    )


def _no_picture(path: Path, start: bytes) -> str:
    meant = next((name for begin, name in _OTHERS.items() if start.startswith(begin)), "")
    begins = f"{start.hex(' ')}{f' ({meant})' if meant else ''}"
    return f"{path} is neither PNG nor JPEG: it begins with {begins}. Save it as one of them, or move it away."
