#!/usr/bin/env python3
"""Makes a recording large: repeats its raw records, later each time.

    enlarge.py EVENTS COUNT <recording >larger

EVENTS is how many events the recording makes, COUNT how many the larger one is to make.
Prints its raw records and events on standard error.

The format is that of st-probe/src/record.rs: MessagePack maps whose first key is `t`.
"""

import struct
import sys

# By marker: bytes of length field, fixed bytes, see the MessagePack specification.
SIZES = {
    0xC0: (0, 0), 0xC2: (0, 0), 0xC3: (0, 0),
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xCA: (0, 4), 0xCB: (0, 8),
    0xCC: (0, 1), 0xCD: (0, 2), 0xCE: (0, 4), 0xCF: (0, 8),
    0xD0: (0, 1), 0xD1: (0, 2), 0xD2: (0, 4), 0xD3: (0, 8),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}
UINT64 = struct.Struct(">BQ")


def skip(data, at):
    """Where the value at `at` ends."""
    values = 1
    while values:
        values -= 1
        marker = data[at]
        at += 1
        if marker < 0x80 or marker >= 0xE0:
            continue
        if marker < 0x90:
            values += 2 * (marker & 15)
        elif marker < 0xA0:
            values += marker & 15
        elif marker < 0xC0:
            at += marker & 31
        elif marker in (0xDC, 0xDD, 0xDE, 0xDF):
            size = 2 if marker in (0xDC, 0xDE) else 4
            length = int.from_bytes(data[at : at + size], "big")
            values += length * (2 if marker >= 0xDE else 1)
            at += size
        else:
            size, fixed = SIZES[marker]
            at += size + fixed + int.from_bytes(data[at : at + size], "big")
    return at


def number(data, at):
    """The unsigned number at `at`."""
    marker = data[at]
    if marker < 0x80:
        return marker
    return int.from_bytes(data[at + 1 : skip(data, at)], "big")


def fields(data, at):
    """Names and places of a record's fields: it has fewer than 16."""
    count = data[at] & 15
    at += 1
    for _ in range(count):
        key = at
        value = skip(data, key)
        yield data[key + 1 : value], value
        at = skip(data, value)


def main():
    events, wanted = int(sys.argv[1]), int(sys.argv[2])
    data = sys.stdin.buffer.read()
    head, end = [], b""
    # The raw records, with every time as a u64, and where the times are.
    block, times = bytearray(), []
    at = 0
    while at < len(data):
        start, at = at, skip(data, at)
        places = dict(fields(data, start)) if data[start] & 0xF0 == 0x80 else {}
        record = data[start:at]
        kind = data[places[b"t"] + 1 : skip(data, places[b"t"])] if places else b"header"
        if kind == b"raw":
            ts = places[b"ts"]
            block += data[start:ts]
            times.append((len(block), number(data, ts)))
            block += UINT64.pack(0xCF, 0) + data[skip(data, ts) : at]
        elif kind == b"end":
            end = (record, places[b"ts"] - start, places[b"records"] - start)
        elif kind == b"lost":
            sys.exit("enlarge.py: the recording has lost records")
        elif not times:
            head.append(record)
    if not times or not end:
        sys.exit("enlarge.py: the recording has no raw records or no end")

    length = times[-1][1] - times[0][1] + 1_000_000
    repeats = -(-wanted // events)
    out = sys.stdout.buffer
    out.write(b"".join(head))
    for repeat in range(repeats):
        shift = repeat * length
        for offset, ts in times:
            UINT64.pack_into(block, offset, 0xCF, ts + shift)
        out.write(block)
    record, ts, records = end
    total = repeats * len(times)
    last = UINT64.pack(0xCF, number(record, ts) + repeats * length)
    count = UINT64.pack(0xCF, total)
    out.write(record[:ts] + last + record[skip(record, ts) : records] + count)
    out.write(record[skip(record, records) :])
    print(total, repeats * events, file=sys.stderr)


main()
