#!/usr/bin/env python3
"""Measures how fast recordings are replayed: each stage by itself, and the pipeline.

    replay.py STAGES LOAD RECORDING RECORDS EVENTS

STAGES is the folder of the stages, LOAD the program bench-load. Prints a table.
"""

import os
import statistics
import subprocess
import sys
import tempfile

RUNS = 3
FILE_EVENTS = "create,mkdir,mknod,delete,rmdir,rename,attrib,symlink,link"
DECODE = ["st-decode"]
PATHTREE = ["st-pathtree", "--watch", "all=/"]
FILTER = ["st-filter", "--event", FILE_EVENTS, "--path", "/root/load/**", "--comm", "[!x]*"]
PASS = ["st-filter", "--event", FILE_EVENTS + ",connect,listen,unlisten"]
FORMAT = ["st-format"]
JSON = ["st-format", "--output", "json"]


def run(stages, load, commands, source, to):
    """Runs a pipeline; wall seconds, and per stage (CPU seconds, KiB)."""
    with tempfile.TemporaryDirectory() as folder:
        running, feed = [], open(source, "rb")
        out = open(to, "wb")
        for at, command in enumerate(commands):
            last = at == len(commands) - 1
            words = [load, "usage", f"{folder}/{at}", f"{stages}/{command[0]}", *command[1:]]
            child = subprocess.Popen(words, stdin=feed, stdout=out if last else subprocess.PIPE)
            feed.close()
            feed = child.stdout
            running.append(child)
        out.close()
        if any([child.wait() for child in running]):
            sys.exit("replay.py: a stage failed")
        wall, uses = 0.0, []
        for at in range(len(commands)):
            with open(f"{folder}/{at}", encoding="ascii") as file:
                _, elapsed, user, system, peak = file.read().split()
            wall = max(wall, float(elapsed))
            uses.append((float(user) + float(system), int(peak)))
    return wall, uses


def measure(name, stages, load, commands, source, records, unit):
    """One row: the median run."""
    runs = [run(stages, load, commands, source, "/dev/null") for _ in range(RUNS)]
    wall = statistics.median(wall for wall, _ in runs)
    cpu = statistics.median(sum(cpu for cpu, _ in uses) for _, uses in runs)
    peak = max(peak for _, uses in runs for _, peak in uses) / 1024
    size = os.path.getsize(source) / 1e6
    print(
        f"{name:<20} {size:7.0f} {wall:8.2f} {cpu:8.2f} {records / wall:11,.0f} {unit:<9} "
        f"{size / wall:6.0f} {peak:8.1f}",
        flush=True,
    )
    return runs


def main():
    stages, load, recording = sys.argv[1:4]
    records, events = int(sys.argv[4]), int(sys.argv[5])
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    print(
        f"Replay of {records:,} raw records, {events:,} events, on {len(cores)} cores; "
        f"median of {RUNS} runs\n"
    )
    print(
        f"{'':20} {'input':>7} {'':8} {'':8} {'':21} {'':>6} {'peak':>8}\n"
        f"{'':20} {'MB':>7} {'wall s':>8} {'CPU s':>8} {'input per second':<21} "
        f"{'MB/s':>6} {'MB/stage':>8}"
    )
    with tempfile.TemporaryDirectory(dir=os.path.dirname(recording)) as folder:
        decoded, resolved = f"{folder}/decoded", f"{folder}/resolved"
        run(stages, load, [DECODE], recording, decoded)
        run(stages, load, [PATHTREE], decoded, resolved)
        for name, command, source, count, unit in (
            ("st-decode", DECODE, recording, records, "records"),
            ("st-pathtree", PATHTREE, decoded, events, "events"),
            ("st-filter", FILTER, resolved, events, "events"),
            ("st-format text", FORMAT, resolved, events, "events"),
            ("st-format json", JSON, resolved, events, "events"),
        ):
            measure(name, stages, load, [command], source, count, unit)
    for name, last in (("pipeline to text", FORMAT), ("pipeline to json", JSON)):
        commands = [DECODE, PATHTREE, PASS, last]
        runs = measure(name, stages, load, commands, recording, events, "events")
        shares = [
            statistics.median(uses[at][0] for _, uses in runs) for at in range(len(commands))
        ]
        names = (command[0] for command in commands)
        print(" " * 4 + "CPU s: " + ", ".join(f"{n} {s:.2f}" for n, s in zip(names, shares)))
    print("\nGoals: 250,000 events per second through the pipeline on 2 cores, 64 MB a stage.")


main()
