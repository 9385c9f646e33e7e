"""Changes that know what a file means: its parts stay readable, so that more is reached than the first check."""

import copy
import csv
import gzip
import io
import json
import math
import struct
import zlib

import pyarrow as pa

from fuzzing import thrift

NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32, 2**48, 2**62]
NUMBERS += [2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63)]
CELLS = ["", " ", "0", "-0", "1e308", "1e-320", "1e999", "nan", "NaN", "inf", "-inf", "NA", "?", "None", "null", "true"]
CELLS += ["False", "0x10", "1_000", "1,000", "1.000,5", "12 %", "−3", "٣", "=1+1", "2020-01-01", "a\nb", 'a"b', "a\rb"]
CELLS += ["\ufeff", "\u202e", "\ud7ff", "é", "e\u0301", "x" * 300, "9" * 400, "18446744073709551616", "1.0", "01", "+1"]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-320, 3.5e38, 1e308, math.inf, -math.inf, math.nan, 0.5, 1e-8]


def restructured(content, kept, choose, reader):
    """A changed file whose structure was understood.

    Raises:
        ValueError: if it cannot be understood, or another error of its parser.
    """
    return CHANGES[reader](content, kept, choose)


def _idx(content, kept, choose):
    packed = content[:2] == b"\x1f\x8b"
    plain = gzip.decompress(content) if packed else content
    rank = plain[3]
    sizes = list(struct.unpack(f">{rank}I", plain[4 : 4 + 4 * rank]))
    kind, body = plain[2], plain[4 + 4 * rank :]
    match choose.randrange(7):
        case 0:
            sizes[choose.randrange(rank)] = choose.choice(NUMBERS) & (2**32 - 1)
        case 1:  # other sizes of the same number of bytes
            sizes = choose.choice(
                ([len(body)], [1, len(body), 1], [len(body), 1, 1], [1] * 4 + [len(body)], sizes[::-1])
            )
        case 2:
            place = choose.randrange(len(sizes) + 1)
            sizes.insert(place, choose.choice((0, 1, 2)))
        case 3:
            kind = choose.choice((8, 9, 11, 12, 13, 14, 0, 255))
        case 4:
            count = max(1, math.prod(sizes[1:]))
            sizes[0] = choose.choice((0, 1, sizes[0] + 1, 100))
            need = min(sizes[0] * count, 2**16)
            body = (body * (need // max(1, len(body)) + 1))[:need]
        case 5:
            body = choose.choice((body[:-1], body + b"\0", b"", body + plain, bytes(len(body))))
        case _:
            rank = choose.choice((0, 1, 2, 4, 255))
            sizes = (sizes * rank)[:rank]
    plain = b"\0\0" + bytes([kind, len(sizes) & 255]) + struct.pack(f">{len(sizes)}I", *sizes) + body
    if choose.random() < (0.7 if packed else 0.2):
        return _gzipped(plain, choose)
    return plain


def _gzipped(plain, choose):
    """Members, flags, checks and what stands behind them."""
    cut = choose.randrange(len(plain) + 1)
    packed = gzip.compress(plain, choose.choice((0, 1, 9)), mtime=0)
    match choose.randrange(9):
        case 0:
            return gzip.compress(plain[:cut], mtime=0) + gzip.compress(plain[cut:], mtime=0)
        case 1:
            return packed + choose.choice((b"\0", b"\0" * 5000, packed, b"\x1f\x8b", b"x", gzip.compress(b"")))
        case 2:
            return packed[:-8] + struct.pack("<I", zlib.crc32(plain) ^ 1) + packed[-4:]
        case 3:
            return packed[:-4] + struct.pack("<I", choose.choice(NUMBERS) & (2**32 - 1))
        case 4:  # an extra field that announces more than there is, or a name without end
            return packed[:3] + bytes([choose.choice((2, 4, 8, 16, 31, 255))]) + packed[4:]
        case 5:
            return packed[:2] + bytes([choose.choice((0, 7, 9))]) + packed[3:]
        case 6:
            return packed[: choose.randrange(len(packed))]
        case _:
            return packed


def _table(content, kept, choose):
    text = content.decode("utf-8", "surrogateescape")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    width = max(map(len, rows), default=0)
    for _ in range(choose.choice((1, 1, 2, 5))):
        match choose.randrange(10):
            case 0 | 1 | 2:
                row = choose.choice(rows)
                row[choose.randrange(len(row))] = choose.choice(CELLS)
            case 3:  # a column of one kind
                column, cells = choose.randrange(width), choose.sample(CELLS, choose.choice((1, 2, 3)))
                for row in rows[1:]:
                    row[column : column + 1] = [choose.choice(cells)]
            case 4:
                column = choose.randrange(width + 1)
                for row in rows:
                    row.insert(column, choose.choice((row[-1] if row else "", "1", "x")))
            case 5:
                column = choose.randrange(width)
                for row in rows:
                    del row[column : column + 1]
            case 6:
                choose.choice(rows).append(choose.choice(CELLS))
            case 7:
                rows.insert(
                    choose.randrange(len(rows) + 1), choose.choice(([], [""], rows[0][:], ["x"], [" "] * width))
                )
            case 8:
                rows = (
                    rows[:1] + rows[1:] * choose.choice((2, 3)) if len(rows) < 200 else rows[: choose.choice((1, 2, 5))]
                )
            case _:
                rows[0] = choose.choice((rows[0][::-1], [each.upper() for each in rows[0]], rows[0] + [""]))
    out = io.StringIO()
    ends, mark = choose.choice(("\n", "\r\n", "\r", "\n")), choose.choice(',,,,;\t| "')
    quoting = choose.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    csv.writer(out, delimiter="," if mark == '"' else mark, lineterminator=ends, quoting=quoting).writerows(rows)
    coding = choose.choice(("utf-8",) * 12 + ("utf-8-sig", "utf-16", "latin-1"))
    written = out.getvalue().encode(coding, "replace" if coding != "utf-8" else "surrogateescape")
    return written if choose.random() < 0.9 else written.rstrip(b"\r\n")


def _parquet(content, kept, choose):
    length = int.from_bytes(content[-8:-4], "little")
    footer = thrift.Reader(content[-8 - length : -8]).struct()
    chunks = [_get(chunk, 3) for group in _get(footer, 4)[1] for chunk in _get(group, 1)[1]]
    pages = [_pages(content, chunk) for chunk in chunks]
    texts = [b"\0", b"\xff" * 4, b"x" * 300, b"kind", b"{}", b'{"columns": 1}', b"pandas", b"ARROW:schema"]
    for _ in range(choose.choice((1, 1, 2, 3))):
        place = choose.randrange(len(chunks))
        match choose.randrange(8):
            case 0 | 1 | 2:
                pass
            case 3 | 4:
                thrift.changed(choose.choice(pages[place])[0], NUMBERS, texts, choose)
            case 5 | 6:
                _change_page(choose.choice(pages[place]), _get(chunks[place], 4), choose)
            case _:
                others = choose.choice(pages)
                if choose.random() < 0.5:
                    pages[place].insert(choose.randrange(len(pages[place]) + 1), copy.deepcopy(choose.choice(others)))
                else:
                    pages[place], others[:] = others, pages[place]
    body = b"PAR1"
    for chunk, parts in zip(chunks, pages, strict=True):
        start = len(body)
        for head, payload in parts:
            if _get(head, 1) == 2:
                _put(chunk, 11, len(body))
            elif start == len(body) or _get(parts[0][0], 1) == 2:
                _put(chunk, 9, len(body)) if head is parts[_get(parts[0][0], 1) == 2 and 1][0] else None
            body += thrift.written(head) + payload
        _put(chunk, 7, len(body) - start)
    for _ in range(choose.choice((0, 0, 1, 1, 2))):
        thrift.changed(footer, NUMBERS, texts, choose)
    end = thrift.written(footer)
    return body + end + struct.pack("<I", len(end)) + b"PAR1"


def _get(fields, number):
    return next((value for field, _, value in fields if field == number), None)


def _put(fields, number, value):
    for each in fields:
        if each[0] == number:
            each[2] = value


def _pages(content, chunk):
    """The pages of a column as pairs of a head and what follows it."""
    place = min(each for each in (_get(chunk, 9), _get(chunk, 11)) if each)
    end, found = place + _get(chunk, 7), []
    while place < end:
        reader = thrift.Reader(content, place)
        head = reader.struct()
        place = reader.place + _get(head, 3)
        found.append([head, content[reader.place : place]])
    return found


def _change_page(page, codec, choose):
    """Change the values of a page before they are compressed; its sizes stay true, mostly."""
    head, payload = page
    name = {1: "snappy", 6: "zstd"}.get(codec) if _get(head, 8) is None else None
    plain = bytearray(pa.decompress(payload, _get(head, 2), codec=name, asbytes=True) if name else payload)
    for _ in range(choose.choice((1, 1, 3))):
        place = choose.randrange(len(plain) + 1)
        match choose.randrange(4):
            case 0:
                plain[place : place + 1] = bytes([choose.choice((0, 1, 2, 3, 127, 128, 255))])
            case 1:
                plain[place : place + 4] = struct.pack("<I", choose.choice(NUMBERS) & (2**32 - 1))
            case 2:
                plain[place:place] = thrift.varint(choose.choice(NUMBERS))
            case _:
                del plain[place : place + choose.choice((1, 4, 8))]
    page[1] = bytes(pa.compress(bytes(plain), codec=name, asbytes=True)) if name else bytes(plain)
    _put(head, 2, len(plain))
    _put(head, 3, len(page[1]))


def _json(content, kept, choose):
    document, other = json.loads(content), json.loads(choose.choice(kept))
    for _ in range(choose.choice((1, 1, 2, 3))):
        spots, words = _spots(document), [part[key] for part, key in _spots(other) if isinstance(part[key], str)]
        part, key = choose.choice(spots)
        value = part[key]
        if isinstance(part, dict) and choose.random() < 0.2:  # what another file has under that name
            same = [p[k] for p, k in _spots(other) if k == key]
            part[key] = copy.deepcopy(choose.choice(same)) if same else value
        elif isinstance(value, bool):
            part[key] = not value
        elif isinstance(value, int):
            part[key] = choose.choice((value + 1, value - 1, float(value), -value, choose.choice(NUMBERS)))
        elif isinstance(value, float):
            part[key] = choose.choice((*FLOATS[:8], int(value) if math.isfinite(value) else 0, value * 1e30))
        elif isinstance(value, str):
            part[key] = choose.choice((*words, value.upper(), value + " ", *CELLS))
        elif isinstance(value, list) and value:
            place = choose.randrange(len(value))
            part[key] = choose.choice((value[:place], value + value, value[::-1], [*value, value[place]], value[0], []))
        elif isinstance(value, dict) and value:
            gone = choose.choice([*value])
            part[key] = {name: each for name, each in value.items() if name != gone}
        else:
            part[key] = choose.choice((None, 0, 1.5, "ms1", [], {}))
    return json.dumps(document).encode()


def _spots(document):
    found, heap = [], [document]
    while heap:
        part = heap.pop()
        keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        found += [(part, key) for key in keys]
        heap += [part[key] for key in keys]
    return found


def _tensors(content, kept, choose):
    """A safetensors file: names, types, shapes and places that still fit each other, or just do not."""
    length = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    about = head.pop("__metadata__", None)
    held = {name: data[slice(*each["data_offsets"])] for name, each in head.items()}
    for _ in range(choose.choice((1, 1, 2))):
        name = choose.choice([*head])
        entry, other = head[name], choose.choice([*head])
        shape = entry["shape"]
        match choose.randrange(10):
            case 0:
                entry["dtype"] = choose.choice(
                    ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "C64")
                )
            case 1:
                entry["shape"] = choose.choice((shape[::-1], [math.prod(shape)], [1, *shape], [*shape, 1], shape[1:]))
            case 2:
                entry["shape"] = [choose.choice((0, each, each + 1, 2**32, 2**62, -1)) for each in shape]
            case 3:  # another shape with the bytes that it needs
                entry["shape"] = [max(0, each + choose.choice((-1, 0, 1))) for each in shape]
                held[name] = (held[name] * 4 + bytes(8))[: math.prod(entry["shape"]) * 4]
            case 4:
                head[name], head[other], held[name], held[other] = head[other], head[name], held[other], held[name]
            case 5:
                del head[name], held[name]
                if not head:
                    return content
            case 6:
                new = choose.choice((name + "2", name.upper(), "", "../" + name, "flow.J", "a\0b", "x" * 1000))
                head[new], held[new] = dict(entry), held[name]
            case 7 | 8:
                width = {"F64": 8, "F32": 4, "I64": 8}.get(entry["dtype"], 1)
                form = {"F64": "<d", "F32": "<f", "I64": "<q"}.get(entry["dtype"], "<B")
                place = width * choose.randrange(max(1, len(held[name]) // width))
                value = choose.choice(FLOATS) if form[1] in "fd" else choose.choice(NUMBERS)
                value = value if form[1] in "fd" else (value & 255 if width == 1 else min(value, 2**63 - 1))
                try:
                    number = struct.pack(form, value)
                except OverflowError:
                    number = b"\xff" * width
                held[name] = held[name][:place] + number + held[name][place + width :]
            case _:
                if isinstance(about, dict) and about:
                    key = choose.choice([*about])
                    try:
                        about[key] = _json(about[key].encode(), [about[key].encode()], choose).decode()
                    except (ValueError, IndexError):
                        about[key] = choose.choice((*CELLS, "{}", "[]", "0"))
    return _packed(head, held, about, choose)


def _packed(head, held, about, choose):
    data, full = b"", {} if about is None else {"__metadata__": about}
    for name, entry in head.items():
        full[name] = {**entry, "data_offsets": [len(data), len(data) + len(held[name])]}
        data += held[name]
    if choose.random() < 0.15:
        entry = full[choose.choice([*head])]
        entry["data_offsets"] = [choose.choice((each, each + 4, each - 4, *NUMBERS)) for each in entry["data_offsets"]]
    written = json.dumps(full).encode()
    written += b" " * choose.choice((-len(written) % 8, 0, 8, 5000))
    return struct.pack("<Q", len(written)) + written + data + choose.choice((b"",) * 12 + (b"\0", b"\0" * 8))


CHANGES = {
    "idx": _idx,
    "csv": _table,
    "parquet": _parquet,
    "config": _json,
    "metrics": _json,
    "weights": _tensors,
    "checkpoint": _tensors,
}
