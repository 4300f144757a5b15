"""Sets the realtime clock of a raw stream: for cases/clock.

clock.py STEP=AT... puts a `clock` record before the first raw record that comes so many
milliseconds after the header; the clock then jumps by so many seconds.
"""
import sys

import msgpack

records = list(msgpack.Unpacker(sys.stdin.buffer, unicode_errors="surrogateescape"))
header = records[0]
offset = header["realtime"] - header["monotonic"]
steps = []
for argument in sys.argv[1:]:
    step, at = map(int, argument.split("="))
    steps.append((header["monotonic"] + at * 1_000_000, step))
for record in records:
    while steps and record["t"] == "raw" and record["ts"] >= steps[0][0]:
        offset += steps.pop(0)[1] * 1_000_000_000
        ts = record["ts"]
        clock = {"t": "clock", "ts": ts, "realtime": ts + offset, "later": "a field"}
        sys.stdout.buffer.write(msgpack.packb(clock))
    sys.stdout.buffer.write(msgpack.packb(record, unicode_errors="surrogateescape"))
