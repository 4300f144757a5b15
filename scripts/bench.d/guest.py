#!/usr/bin/env python3
"""What scripts/bench does in its VMs.

    guest.py count
    guest.py record

`count` runs each load of bench-load untraced and under each tracer, in a VM whose clock counts
instructions, and prints one figure a line: `traced.LOAD.TRACER`, instructions of the load for
a round (untraced: `none`, twice); `tracer.LOAD.TRACER`, those of the tracer's processes, and
`tracer.LOAD.st-probe`.

`record` writes a tar archive to standard output: `recording`, that of systracer while `workload`
runs, and `trace.dat`, that of trace-cmd by the same probes at the same time.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

TRACEFS = pathlib.Path("/sys/kernel/tracing")
# On the disk's ext4; what the tracers write is on a tmpfs.
WATCHED = "/root/watched"
LOADED = "/root/load"
OUTPUT = "/tmp/output"
MESSAGES = "/tmp/messages"
GROUP = "bench"
# The loads, the lines of systracer about a round, and how many rounds.
LOADS = {
    "files": (2, 2000),
    "directories": (4, 1500),
    "links": (2, 1500),
    "opens": (0, 2000),
    "processes": (0, 300),
}


def below(pid):
    """A process and all below it, with their names."""
    parents, names = {}, {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        child = int(text.split(" ", 1)[0])
        names[child] = text[text.index("(") + 1 : text.rindex(")")]
        parents[child] = int(text[text.rindex(")") + 2 :].split()[1])
    found = {pid}
    while more := {child for child, above in parents.items() if above in found} - found:
        found |= more
    return {each: names[each] for each in found if each in names}


class Tracer:
    """A tracer whose lines go to OUTPUT."""

    def __init__(self, words, began):
        with open(OUTPUT, "wb") as output, open(MESSAGES, "wb") as messages:
            self.process = subprocess.Popen(words, stdout=output, stderr=messages)
        while not began(self):
            if self.process.poll() is not None:
                sys.exit(f"guest.py: {words[0]} did not begin: {self.messages()}")
            time.sleep(0.1)
        # Its later stages may come after that.
        time.sleep(1)
        self.processes = below(self.process.pid)

    def messages(self):
        return pathlib.Path(MESSAGES).read_text()

    def used(self):
        """Nanoseconds on a CPU so far by name, those of all threads: the first of schedstat."""
        used = {}
        for pid, name in self.processes.items():
            for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                used[name] = used.get(name, 0) + int(thread.read_text().split()[0])
        return used

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def systracer(*options):
    return Tracer(
        ["systracer", *options, "--watch", f"all={WATCHED}"],
        lambda tracer: "tracing" in tracer.messages(),
    )


def probes():
    """Defines systracer's probes again, for trace-cmd: its options to record them."""
    tracer = systracer()
    instance = next((TRACEFS / "instances").glob("systracer_*"))
    events = (instance / "set_event").read_text().split()
    options = []
    for event in events:
        group, name = event.split(":")
        known = (instance / "events" / group / name / "filter").read_text().strip()
        options += ["-e", event.replace(f"{instance.name}:", f"{GROUP}:")]
        options += [] if known == "none" else ["-f", known]
    # Not those that only look at something now and then, which are not enabled.
    definitions = [
        definition
        for definition in (TRACEFS / "kprobe_events").read_text().splitlines()
        if definition.split()[0].partition(":")[2].replace("/", ":") in events
    ]
    # Python's own append mode seeks, which this file does not let it.
    file = os.open(TRACEFS / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    for definition in definitions:
        os.write(file, definition.replace(f":{instance.name}/", f":{GROUP}/").encode())
    os.close(file)
    tracer.end()
    return options


def trace_cmd(options, size):
    """With a ring buffer of `size` KiB for each CPU: half of that may be unread at the end."""
    enabled = TRACEFS / "events" / GROUP / "enable"
    return Tracer(
        ["trace-cmd", "record", "-q", "-C", "mono", "-b", size, "-o", "/tmp/trace.dat", *options],
        lambda tracer: enabled.read_text().strip() == "1",
    )


def inotifywait():
    return Tracer(
        ["inotifywait", "-m", "-r", "-e", "create,delete,move,attrib", WATCHED],
        lambda tracer: "established" in tracer.messages(),
    )


def fatrace():
    os.chdir(WATCHED)
    return Tracer(["fatrace", "--current-mount"], lambda tracer: True)


def count():
    os.mkdir(WATCHED)
    options = probes()
    tracers = (
        ("none", None),
        ("systracer", systracer),
        ("trace-cmd", lambda: trace_cmd(options, "256")),
        ("inotifywait", inotifywait),
        ("fatrace", fatrace),
        # The file system is not what it was.
        ("none", None),
    )
    for name, start in tracers:
        tracer = start() if start else None
        for load, (lines, rounds) in LOADS.items():
            before = tracer.used() if tracer else {}
            seen = pathlib.Path(OUTPUT).read_bytes().count(b"\n")
            out = subprocess.check_output(["bench-load", load, WATCHED, str(rounds)])
            took, total = map(int, out.split())
            print(f"traced.{load}.{name} {took}", flush=True)
            if not tracer:
                continue
            # This machine's clock jumps ahead while there is nothing to do.
            time.sleep(2)
            used = {
                process: (after - before[process]) / total
                for process, after in tracer.used().items()
            }
            print(f"tracer.{load}.{name} {sum(used.values()):.0f}")
            seen = pathlib.Path(OUTPUT).read_bytes().count(b"\n") - seen
            if name == "systracer":
                print(f"tracer.{load}.st-probe {used['st-probe']:.0f}", flush=True)
                # A load makes the file that it opens, once.
                if seen not in (lines * total, lines * total + 1):
                    sys.exit(f"guest.py: {load}: {seen} lines of {lines * total}")
        if tracer:
            tracer.end()


def overrun():
    """How many records trace-cmd has lost."""
    stats = (file.read_text() for file in TRACEFS.glob("per_cpu/cpu*/stats"))
    return sum(int(re.search(r"overrun: (\d+)", text)[1]) for text in stats)


def record():
    global WATCHED
    WATCHED = LOADED
    os.mkdir(LOADED)
    other = trace_cmd(probes(), "16384")
    with open(OUTPUT, "wb") as output:
        subprocess.check_call(
            ["systracer", "--record", "/tmp/recording", "--watch", f"all={LOADED}"]
            + ["--", "workload"],
            stdout=output,
        )
    lost = overrun()
    other.end()
    if lost:
        sys.exit(f"guest.py: trace-cmd lost {lost} records")
    subprocess.check_call(["tar", "-c", "-C", "/tmp", "recording", "trace.dat"])


if sys.argv[1] == "count":
    count()
else:
    record()
