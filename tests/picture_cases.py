"""Pictures as bytes: plain ones, and one that promises what it does not hold."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def png(values, mode=None, **options):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(values), mode).save(stream, "PNG", **options)
    return stream.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def announcing(width, height, bits=8, colour=2):
    """A PNG that promises that many pixels and holds a few bytes."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def jpeg(side=64):
    stream = io.BytesIO()
    Image.fromarray(noise(side, side)).save(stream, "JPEG")
    return stream.getvalue()
