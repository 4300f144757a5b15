#!/usr/bin/python3
"""Leaves out the events of some programs, between any two stages after st-decode:

    st-probe | st-decode | st-pathtree | without-comm.py git cargo | st-format

Needs python3-msgpack. A record is a map; `t` says what it is, see st-decode/src/event.rs.
What a filter does not know it hands on.
"""
import os
import signal
import sys

import msgpack

# Ctrl-C ends st-probe; this filter ends with its input, having handed on everything.
signal.signal(signal.SIGINT, signal.SIG_IGN)

unwanted = {os.fsencode(name) for name in sys.argv[1:]}
records = msgpack.Unpacker(unicode_errors="surrogateescape", max_buffer_size=1 << 26)
# os.read returns what there is, so that no event waits for the next one.
while chunk := os.read(0, 1 << 16):
    records.feed(chunk)
    for record in records:
        if record["t"] == "event" and record["process"].get("comm") in unwanted:
            continue
        sys.stdout.buffer.write(msgpack.packb(record, unicode_errors="surrogateescape"))
    sys.stdout.buffer.flush()
