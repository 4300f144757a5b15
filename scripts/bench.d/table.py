#!/usr/bin/env python3
"""Prints the table of scripts/bench, with what is asked for: table.py FOLDER

FOLDER has what was measured. `figures`, `counted` and `start` have a name and a figure a line,
`replay` and `memory` lines of `bench-load usage`, `latency` nanoseconds.
"""

import pathlib
import statistics
import sys

TRACERS = ("systracer", "trace-cmd", "inotifywait", "fatrace")
# The loads of guest.py, and what is asked for of the traced thread and of all stages.
LOADS = (
    ("files", "create, unlink", 20_000, 35_000),
    ("directories", "mkdir, rename, chmod, rmdir", 44_000, None),
    ("links", "link, unlink", None, None),
    ("opens", "open, close", 0, None),
    ("processes", "fork, exec, exit", None, None),
)
STAGES = (
    ("decode", "st-decode"),
    ("pathtree", "st-pathtree"),
    ("filter", "st-filter, all pass"),
    ("text", "st-format, text"),
    ("json", "st-format, JSON"),
)
# Replay and size are asked for of so many kernel records.
RECORDS = 113_000


def row(what, ours="", asked=None, *others):
    cells = "".join(f"{cell or '':>12}" for cell in (ours, asked, *others))
    print(f"{what:<42}{cells}".rstrip())


def title(text):
    print(f"\n{text}")


def lines(name):
    return (folder / name).read_text().splitlines()


def figures():
    """All figures by name, of one that was measured more than once the mean."""
    found = {}
    for file in ("figures", "counted", "start"):
        for name, figure in map(str.split, lines(file)):
            found.setdefault(name, []).append(float(figure))
    return {name: statistics.mean(figures) for name, figures in found.items()}


def instructions(number, sign=""):
    return f"{number:{sign},.0f}"


def stages(found):
    events = found["events"]
    ratio = found["records"] / events
    title(f"Instructions of the stages for an event ({ratio:.1f} kernel records)")
    for name, what in STAGES:
        row(f"  {what}", instructions(found[f"stage.{name}"] / events))
    for last, what, asked, most in (
        ("text", "text", 12_000, 15_000),
        ("json", "JSON", 15_000, 18_000),
    ):
        total = sum(found[f"stage.{name}"] for name in ("decode", "pathtree", last))
        label = f"  all to {what} (at most {instructions(most)})"
        row(label, instructions(total / events), instructions(asked))


def traced(found):
    title("Instructions added to the traced thread (and those untraced)")
    for load, what, asked, _ in LOADS:
        untraced = found[f"traced.{load}.none"]
        added = [
            instructions(found[f"traced.{load}.{tracer}"] - untraced, "+") for tracer in TRACERS
        ]
        target = None if asked is None else instructions(asked, "+")
        row(f"  {what} ({untraced:,.0f})", added[0], target, *added[1:])
    title("Instructions of the tracer meanwhile (of trace-cmd: to a file)")
    for load, what, _, asked in LOADS:
        used = [instructions(found[f"tracer.{load}.{tracer}"]) for tracer in TRACERS]
        row(f"  {what}", used[0], asked and instructions(asked), *used[1:])
        if load == "files":
            row("    of these st-probe", instructions(found[f"tracer.{load}.st-probe"]))


def replay(found):
    ratio = {
        "systracer": RECORDS / found["records"],
        "trace-cmd": RECORDS / found["records.trace-cmd"],
    }
    wall, cpu = {}, {}
    for line in lines("replay"):
        name, elapsed, user, system, _ = line.split()
        wall.setdefault(name, []).append(float(elapsed))
        cpu.setdefault(name, []).append(float(user) + float(system))

    def seconds(runs, name):
        # What else the machine does can only add to it.
        return f"{min(runs[name]) * ratio[name]:.2f} s"

    title(f"Replay to text of the same kernel records, scaled to {RECORDS:,}")
    row("  elapsed", seconds(wall, "systracer"), "0.06 s", seconds(wall, "trace-cmd"))
    row("  on a CPU", seconds(cpu, "systracer"), None, seconds(cpu, "trace-cmd"))
    sizes = (found["size"] / found["records"], found["size.trace-cmd"] / found["records.trace-cmd"])
    row("  size of the file, a record", f"{sizes[0]:.0f} B", "13 B", f"{sizes[1]:.0f} B")


def memory():
    title("Peak memory for a million events")
    peaks = {}
    for line in lines("memory"):
        name, *_, peak = line.split()
        peaks[name] = max(peaks.get(name, 0), int(peak))
    for name, peak in peaks.items():
        row(f"  {name}", f"{peak * 1024 / 1e6:.1f} MB", "8 MB")


def latency():
    title("From an operation to its line, on an idle machine of two CPUs")
    took = sorted(int(line) / 1e6 for line in lines("latency"))
    row("  median", f"{statistics.median(took):.1f} ms")
    row("  99th percentile", f"{took[-(-len(took) * 99 // 100) - 1]:.1f} ms", "50 ms")


def start(found):
    title("Start, with 200 processes and 100,000 directories to be watched")
    for name, what, asked in (
        ("systracer", "systracer traces after", "0.3 s"),
        ("btf", "  the kernel's types are read", None),
        ("probes", "  probes are defined, some are on", None),
        ("mounts", "  mount tables are read", None),
        ("processes", "  processes are looked at", None),
        ("on", "  all probes are on", None),
        ("snapshot", "snapshot of the directories, meanwhile", None),
    ):
        row(f"  {what}", f"{found[name]:.2f} s", asked)
    row("  memory of st-pathtree with them", f"{found['memory'] / 1e6:.1f} MB")


folder = pathlib.Path(sys.argv[1])
row("", "systracer", "asked for", *TRACERS[1:])
every = figures()
stages(every)
traced(every)
replay(every)
memory()
latency()
start(every)
