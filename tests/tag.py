"""Adds a field to every event and a record of a new kind: for cases/pass-through."""
import sys

import msgpack

for record in msgpack.Unpacker(sys.stdin.buffer, unicode_errors="surrogateescape"):
    if record["t"] == "event":
        record["tag"] = {"by": b"tag.py", "list": [1, None, 2.5]}
    if record["t"] == "end":
        sys.stdout.buffer.write(msgpack.packb({"t": "novelty", "ts": 1, 7: "not a string"}))
    sys.stdout.buffer.write(msgpack.packb(record, unicode_errors="surrogateescape"))
