#!/usr/bin/python3
"""Shows which of some made-up events st-pathtree passes: for cases/precedence-*.

    watched.py [--watch EVENTS=PATH]... [--mount 'DEVICE ROOT POINT']... EVENT...

EVENT is `create,delete PATH...` (each event on each path) or `rename OLD -> NEW` (or link);
` on DEVICE` may follow. Paths are those within the file system of DEVICE, by default 8:1,
which is mounted on /. One line an event: `yes` and what st-format shows, or `no` and EVENT.
"""
import json
import subprocess
import sys

import msgpack

RECORDING = "tests/recordings/6.1.raw"


def run(command, stream):
    return subprocess.run(command, input=stream, stdout=subprocess.PIPE, check=True).stdout


def records(stream):
    unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
    unpacker.feed(stream)
    return unpacker


def pack(record):
    return msgpack.packb(record, unicode_errors="surrogateescape")


def events(text):
    """The events that one argument means, with what each is called."""
    what, _, device = text.partition(" on ")
    kinds, _, paths = what.partition(" ")
    old, arrow, new = paths.partition(" -> ")
    named = [(old, new)] if arrow else [(None, path) for path in paths.split()]
    for old, path in named:
        for kind in kinds.split(","):
            files = {"at": 1 << 62, "fs_path": {"path": path.encode()}}
            if old:
                files["old_fs_path"] = {"path": old.encode()}
            event = {"event": kind, "dev": device or "8:1", "unresolved": files}
            yield event, label(kind, old, path) + (f" on {device}" if device else "")


def label(kind, old, path):
    return f"{kind} {old} -> {path}" if old else f"{kind} {path}"


def shown(line):
    """What st-format shows of an event, time and process apart."""
    text = label(line["event"], line.get("old_path"), line["path"])
    statuses = {line["path_status"], line.get("old_path_status", "complete")} - {"complete"}
    return text + "".join(f" [{status}]" for status in sorted(statuses))


options = {"--watch": [], "--mount": ["8:1 / /"]}
arguments = sys.argv[1:]
while arguments and arguments[0] in options:
    options[arguments.pop(0)].append(arguments.pop(0))
made = [event for argument in arguments for event in events(argument)]

# A header and an end are what they are in any stream; the mounts are our own.
frame = {}
with open(RECORDING, "rb") as recording:
    for record in records(run(["st-decode"], recording.read())):
        frame.setdefault(record["t"], record)
ids = enumerate(options["--mount"], 1)
table = "".join(f"{number} {number > 1:d} {mount} rw - x x rw\n" for number, mount in ids)
stream = pack(frame["header"]) + pack({**frame["mounts"], "mountinfo": table.encode()})
for seq, (event, _) in enumerate(made):
    common = {"t": "event", "ts": 1, "seq": seq, "cpu": 0, "process": {"tid": 1}}
    stream += pack({**common, **event})
stream += pack(frame["end"])

watches = [word for watch in options["--watch"] for word in ("--watch", watch)]
passed = run(["st-format", "--output", "json"], run(["st-pathtree", *watches], stream))
lines = {line["seq"]: line for line in map(json.loads, passed.splitlines())}
for seq, (_, text) in enumerate(made):
    print(f"yes  {shown(lines[seq])}" if seq in lines else f"no   {text}")
