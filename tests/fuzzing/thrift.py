"""Thrift's compact protocol as trees: what the heads of Parquet files and pages are written in.

A struct is a list of [field, type, value], a list a pair of its type and values, a number an int, a text bytes.
"""

import struct

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


class Reader:
    """Read one struct; `place` is then behind it."""

    def __init__(self, content, place=0):
        self.content, self.place = content, place

    def byte(self):
        self.place += 1
        return self.content[self.place - 1]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def number(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def struct(self):
        fields, last = [], 0
        while head := self.byte():
            last = last + (head >> 4) if head >> 4 else self.number()
            fields.append([last, head & 15, self.value(head & 15)])
        return fields

    def value(self, kind, listed=False):
        if kind in (TRUE, FALSE):
            return self.byte() if listed else None
        if kind == BYTE:
            return self.byte()
        if kind < DOUBLE:
            return self.number()
        if kind in (DOUBLE, BINARY):
            length = 8 if kind == DOUBLE else self.varint()
            self.place += length
            return self.content[self.place - length : self.place]
        if kind in (LIST, SET):
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.varint()
            return [head & 15, [self.value(head & 15, True) for _ in range(min(count, len(self.content)))]]
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"type {kind}")


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(value):
    return varint(value << 1 ^ value >> 63)


def written(fields):
    """The bytes of a struct."""
    out, last = b"", 0
    for field, kind, value in fields:
        delta = field - last
        out += bytes([delta << 4 | kind]) if 0 < delta < 16 else bytes([kind]) + number(field)
        out += _value(kind, value)
        last = field
    return out + b"\0"


def _value(kind, value, listed=False):
    if kind in (TRUE, FALSE):
        return bytes([value & 255]) if listed else b""
    if kind == BYTE:
        return struct.pack("B", value & 255)
    if kind < DOUBLE:
        return number(value)
    if kind == DOUBLE:
        return value
    if kind == BINARY:
        return varint(len(value)) + value
    if kind == STRUCT:
        return written(value)
    inner, values = value
    head = bytes([len(values) << 4 | inner]) if len(values) < 15 else bytes([240 | inner]) + varint(len(values))
    return head + b"".join(_value(inner, each, True) for each in values)


def nodes(fields):
    """Every struct and every list of a tree."""
    found, heap = [], [fields]
    while heap:
        part = heap.pop()
        found.append(part)
        inner = [(kind, value) for _, kind, value in part] if not _is_list(part) else [(part[0], v) for v in part[1]]
        heap += [value for kind, value in inner if kind in (LIST, SET, STRUCT)]
    return found


def _is_list(part):
    return len(part) == 2 and isinstance(part[0], int)


def changed(fields, numbers, texts, choose):
    """Change one place of a tree, in the tree itself: a number, a text, a field or the length of a list."""
    part = choose.choice(nodes(fields))
    if _is_list(part):
        inner, values = part
        if not values:
            return
        place = choose.randrange(len(values))
        match choose.randrange(4):
            case 0:
                del values[place]
            case 1:
                values.insert(place, values[choose.randrange(len(values))])
            case 2:
                values[place], values[-1] = values[-1], values[place]
            case _:
                values[place] = _other(inner, values[place], numbers, texts, choose)
        return
    if not part:
        return
    place = choose.randrange(len(part))
    match choose.randrange(6):
        case 0:
            del part[place]
        case 1:
            part[place] = [part[place][0] + choose.choice((-1, 1, 7, 200)), *part[place][1:]]
        case _:
            field, kind, value = part[place]
            kind = 3 - kind if kind in (TRUE, FALSE) else kind
            part[place] = [field, kind, _other(kind, value, numbers, texts, choose)]


def _other(kind, value, numbers, texts, choose):
    if BYTE <= kind < DOUBLE:
        return choose.choice((value + 1, value - 1, -value, value * 2, value << 32, choose.choice(numbers)))
    if kind == BINARY:
        return choose.choice((b"", value[:-1], value + value, value + b"\0", choose.choice(texts)))
    if kind == DOUBLE:
        return choose.choice((b"\xff" * 8, b"\0" * 8))
    return value
