//! What st-probe tells of the machine beside the ring buffer: processes and mounts.

use crate::record::{Bytes, Mounts, Process, Thread};
use crate::wire;
use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Now, in nanoseconds of a clock.
pub fn now(clock: ClockId) -> Result<u64> {
    let time = clock_gettime(clock).context("cannot read a clock")?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME at one instant: the closest of some tries, since we may
/// be held up between two looks.
pub fn clocks() -> Result<(u64, u64)> {
    let mut closest = (u64::MAX, 0, 0);
    for _ in 0..10 {
        let before = now(ClockId::CLOCK_MONOTONIC)?;
        let realtime = now(ClockId::CLOCK_REALTIME)?;
        let after = now(ClockId::CLOCK_MONOTONIC)?;
        closest = closest.min((after - before, before.midpoint(after), realtime));
    }
    Ok((closest.1, closest.2))
}

/// Hands out a `process` record, with its time, for each process alive.
pub fn processes(mut take: impl FnMut(u64, Vec<u8>)) -> Result<()> {
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Some(pid) = entry
            .ok()
            .and_then(|entry| entry.file_name().to_str()?.parse().ok())
        else {
            continue;
        };
        let ts = now(ClockId::CLOCK_MONOTONIC)?;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        // A thread that ends while we look has a record of its exit in the ring buffer.
        let threads = tasks.filter_map(|task| {
            let task = task.ok()?;
            let comm = fs::read(task.path().join("comm")).ok()?;
            let comm = comm.strip_suffix(b"\n").unwrap_or(&comm).to_vec();
            Some(Thread {
                tid: task.file_name().to_str()?.parse().ok()?,
                comm: comm.into(),
            })
        });
        let process = Process {
            ts,
            pid,
            threads: threads.collect(),
        };
        let mut record = Vec::new();
        wire::write(&process, &mut record);
        take(ts, record);
    }
    Ok(())
}

/// A mount table that was read.
pub struct Table {
    /// When.
    pub ts: u64,
    /// Until when the previous one is known to have held.
    pub since: u64,
    ns: u64,
    mountinfo: Vec<u8>,
}

impl Table {
    /// Its record, with how many changes were attempted since the previous one.
    pub fn record(&self, attempts: u64) -> Vec<u8> {
        let mountinfo = Bytes::from(&self.mountinfo[..]);
        let mounts = Mounts {
            ts: self.ts,
            since: self.since,
            attempts,
            ns: self.ns,
            mountinfo,
        };
        let mut record = Vec::new();
        wire::write(&mounts, &mut record);
        record
    }
}

/// The mount table of our mount namespace, watched for changes.
pub struct MountTable {
    file: File,
    ns: u64,
    /// When the table that was last read was last known to hold.
    checked: u64,
}

impl MountTable {
    /// Opens it.
    pub fn open() -> Result<Self> {
        let file =
            File::open("/proc/self/mountinfo").context("cannot open /proc/self/mountinfo")?;
        let ns = fs::metadata("/proc/self/ns/mnt")
            .context("cannot look at /proc/self/ns/mnt")?
            .ino();
        Ok(Self {
            file,
            ns,
            checked: 0,
        })
    }

    /// Reads it as it is now.
    pub fn read(&mut self) -> Result<Table> {
        let mut mountinfo = Vec::new();
        self.file
            .rewind()
            .and_then(|()| self.file.read_to_end(&mut mountinfo))
            .context("cannot read mountinfo")?;
        let ts = now(ClockId::CLOCK_MONOTONIC)?;
        let since = if self.checked == 0 { ts } else { self.checked };
        self.checked = ts;
        Ok(Table {
            ts,
            since,
            ns: self.ns,
            mountinfo,
        })
    }

    /// Notes that it was seen unchanged at `ts`.
    pub fn unchanged(&mut self, ts: u64) {
        self.checked = ts;
    }

    /// To poll for POLLPRI, which says that it has changed: proc_pid_mounts(5).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
