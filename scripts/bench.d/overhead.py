#!/usr/bin/env python3
"""Measures what tracing costs the traced, and how soon it tells. Runs in the VM.

    overhead.py ROUNDS SECONDS OPERATIONS

Each round runs every load for SECONDS without tracing, under systracer and under
`trace-cmd record` of the same probes. Prints tables.
"""

import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

TRACEFS = pathlib.Path("/sys/kernel/tracing")
# On the disk's ext4; what the tracers write is on a tmpfs.
WATCHED = "/root/watched"
OUTPUT = "/tmp/output"
GROUP = "bench"
# Name, the load of bench-load, events of a cycle.
LOADS = (
    ("create+unlink", "files", 2),
    ("mkdir+rename+chmod+rmdir", "dirs", 4),
    ("open+close", "opens", 0),
    ("fork+exec+exit", "processes", 0),
)
STAGES = ("st-probe", "st-decode", "st-pathtree", "st-format")
TRACERS = ("none", "systracer", "trace-cmd")


def load(name):
    """Runs a load: nanoseconds of a cycle, cycles in all."""
    words = ["bench-load", name, WATCHED, sys.argv[2]]
    out = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    timed, nanoseconds, total = map(int, out.split())
    return nanoseconds / timed, total


def children(pid):
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


def cpu(processes):
    """Nanoseconds on a CPU, by name: the first number of schedstat."""
    used = {}
    for pid, name in processes.items():
        spent = int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        used[name] = used.get(name, 0) + spent
    return used


def settle(processes):
    """Waits until they have nothing left to do."""
    before = cpu(processes)
    while True:
        time.sleep(0.15)
        now = cpu(processes)
        # Each look at an idle process may find a tick's worth of work.
        if sum(now.values()) - sum(before.values()) < 3_000_000:
            return now
        before = now


class Systracer:
    def __init__(self):
        self.output = open(OUTPUT, "wb")
        self.process = subprocess.Popen(
            ["systracer", "--watch", f"all={WATCHED}"], stdout=self.output, stderr=subprocess.PIPE
        )
        if b"tracing" not in self.process.stderr.readline():
            sys.exit("overhead.py: systracer did not begin")
        # systracer starts the later ones once st-probe traces.
        self.stages = {}
        while not set(STAGES) <= set(self.stages.values()):
            self.stages = {
                pid: name
                for pid, name in children(self.process.pid).items()
                if name in STAGES
            }

    def lines(self):
        with open(OUTPUT, "rb") as file:
            return sum(1 for _ in file)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.output.close()
        with open(OUTPUT, "rb") as file:
            return sum(1 for line in file if line.split()[1] == b"lost")


def probes():
    """Defines systracer's probes again, for trace-cmd: its options to record them."""
    tracer = Systracer()
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


class TraceCmd:
    def __init__(self, options):
        words = ["trace-cmd", "record", "-q", "-C", "mono", "-b", "4096", "-o", OUTPUT]
        self.process = subprocess.Popen(
            words + options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        enabled = TRACEFS / "events" / GROUP / "enable"
        while enabled.read_text().strip() != "1" or len(children(self.process.pid)) < 2:
            if self.process.poll() is not None:
                sys.exit("overhead.py: trace-cmd did not begin")
            time.sleep(0.1)
        self.stages = {}
        self.cpu = 0.0

    def end(self):
        overrun = 0
        for stats in TRACEFS.glob("per_cpu/cpu*/stats"):
            overrun += int(re.search(r"overrun: (\d+)", stats.read_text())[1])
        self.process.send_signal(signal.SIGINT)
        # Its recorders leave most of their work to the end, so it has one figure for all
        # loads; what it takes to write the file is in it.
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        self.cpu = usage.ru_utime + usage.ru_stime
        return overrun


def rounds(count, options):
    """Times of a cycle and CPU nanoseconds of a tracer per cycle, by load and tracer."""
    times = {(name, tracer): [] for name, _, _ in LOADS for tracer in TRACERS}
    used = {key: [] for key in times}
    trouble, floor = [], []
    for number in range(count):
        for kind in TRACERS:
            made = 0
            tracer = {"none": lambda: None, "systracer": Systracer}.get(
                kind, lambda: TraceCmd(options)
            )()
            stages = tracer.stages if tracer else {}
            for name, program, events in LOADS:
                before = settle(stages)
                seen = tracer.lines() if kind == "systracer" else 0
                taken, cycles = load(program)
                made += cycles * events
                after = settle(stages)
                times[name, kind].append(taken)
                used[name, kind].append(
                    {stage: (after[stage] - before[stage]) / cycles for stage in after}
                )
                if kind == "systracer":
                    seen = tracer.lines() - seen
                    # A load makes the file that it opens, once.
                    if seen not in (events * cycles, events * cycles + (events == 0)):
                        trouble.append(f"{name}: {seen} lines of {events * cycles}")
            lost = tracer.end() if tracer else 0
            if kind == "trace-cmd":
                floor.append(1e6 * tracer.cpu / made)
            if lost:
                trouble.append(f"{kind} lost records, in round {number + 1}")
            pathlib.Path(OUTPUT).unlink(missing_ok=True)
    return times, used, floor, trouble


def overhead(count):
    options = probes()
    times, used, floor, trouble = rounds(count, options)
    print(
        f"Added time of an operation, and CPU of the tracer, on ext4 in the VM; "
        f"{count} interleaved rounds\n\n"
        f"{'':24} {'none':>8}   {'systracer':>16} {'trace-cmd':>10} {'difference':>11}\n"
        f"{'':24} {'us':>8} {'median':>8} {'(range)':>15} {'median':>7} {'(range)':>14} {'points':>8}"
    )

    def ratios(name, tracer):
        pairs = zip(times[name, tracer], times[name, "none"])
        return sorted(100 * (traced / plain - 1) for traced, plain in pairs)

    for name, _, _ in LOADS:
        plain = statistics.median(times[name, "none"]) / 1000
        ours, theirs = ratios(name, "systracer"), ratios(name, "trace-cmd")
        points = statistics.median(
            100 * (a - b) / c
            for a, b, c in zip(
                times[name, "systracer"], times[name, "trace-cmd"], times[name, "none"]
            )
        )
        print(
            f"{name:24} {plain:8.1f} {statistics.median(ours):+7.1f}% "
            f"{f'({ours[0]:+.0f} to {ours[-1]:+.0f})':>15} {statistics.median(theirs):+6.1f}% "
            f"{f'({theirs[0]:+.0f} to {theirs[-1]:+.0f})':>14} {points:+8.1f}"
        )
    print(
        "\nGoals: create+unlink and the mkdir cycle at most 10 points above trace-cmd,\n"
        "open+close of an existing file at most +3 %.\n"
    )
    print(
        f"CPU, ms per 1000 cycles{'':13} " + " ".join(f"{stage[3:]:>8}" for stage in STAGES)
        + f" {'all':>7} {'per 1000':>9}\n"
        + f"{'':36} " + " ".join(" " * 8 for _ in STAGES) + f" {'':7} {'events':>9}"
    )
    for name, _, events in LOADS:
        each = [
            statistics.median(use[stage] for use in used[name, "systracer"]) / 1000
            for stage in STAGES
        ]
        total = statistics.median(sum(u.values()) for u in used[name, "systracer"]) / 1000
        print(
            f"{name:36} " + " ".join(f"{value:8.1f}" for value in each) + f" {total:7.1f} "
            + (f"{total / events:9.1f}" if events else f"{'-':>9}")
        )
    print(
        f"\ntrace-cmd record, with its start and its file: {statistics.median(floor):.1f} ms "
        "per 1000 events\n\nGoal: at most 100 ms per 1000 operations, over all stages."
    )
    for line in trouble:
        print(f"Not exact: {line}")


def latency(operations):
    words = ["bench-load", "latency", WATCHED, operations]
    out = subprocess.run(
        [*words, "systracer", "--watch", f"all={WATCHED}"], stdout=subprocess.PIPE, check=True
    ).stdout
    took = sorted(int(line) / 1e6 for line in out.split())
    p99 = took[-(-len(took) * 99 // 100) - 1]
    print(
        f"\nLatency from the operation to its line, ms, {len(took)} operations on an idle VM\n\n"
        f"{'median':>8} {'p99':>8} {'max':>8}\n"
        f"{statistics.median(took):8.1f} {p99:8.1f} {took[-1]:8.1f}\n\n"
        "Goal: p99 below 50 ms."
    )


os.mkdir(WATCHED)
print(f"VM: Linux {os.uname().release}, {os.cpu_count()} CPUs, QEMU's TCG\n", flush=True)
overhead(int(sys.argv[1]))
sys.stdout.flush()
latency(sys.argv[3])
