//! What two threads do as fast as they can, and what a recording tells of it.

use anyhow::{Context, Error, Result, bail};
use nix::unistd::{gettid, unlink};
use st_probe::compressed::Plain;
use st_probe::record::{End, Header, Lost, Raw};
use st_probe::time::Monotonic;
use st_probe::wire::Reader;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::tracefs::TRACEFS;
use crate::{Report, sys};

/// The hooks that each creation and deletion of a file passes once, by event and role.
const PASSED: [&str; 4] = [
    "create entry",
    "inode inode",
    "delete entry",
    "delete return",
];

/// What two threads did.
pub struct Work {
    /// How many files each made and removed.
    pub files: u64,
    pub tids: Vec<i32>,
    /// How many records all others can have left meanwhile, at most.
    others: u64,
    took: Duration,
}

impl Work {
    fn per_second(&self) -> u64 {
        (2 * self.files) * 1000 / self.took.as_millis().max(1) as u64
    }
}

/// Lets two threads make and remove files as fast as they can, until `over` says so of the
/// number that one of them has made.
pub fn work(dir: &Path, over: impl Fn(u64) -> bool + Sync) -> Result<Work> {
    let (left, began) = (left_by_others()?, Instant::now());
    let over = &over;
    let results = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let file = dir.join(format!("file{thread}"));
                scope.spawn(move || -> Result<(u64, i32)> {
                    let mut files = 0;
                    while !over(files) {
                        sys::creat(&file, 0o644)?;
                        unlink(&file)?;
                        files += 1;
                    }
                    Ok((files, gettid().as_raw()))
                })
            })
            .collect();
        let join =
            |thread: thread::ScopedJoinHandle<'_, Result<_>>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok(Work {
        files: results.iter().map(|result| result.0).sum(),
        tids: results.iter().map(|result| result.1).collect(),
        others: left_by_others()?.saturating_sub(left),
        took: began.elapsed(),
    })
}

/// Processes and threads begun since boot: proc_stat(5).
fn forks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "));
    line.context("no processes in /proc/stat")?
        .parse()
        .context("/proc/stat")
}

/// How many records all others can have left until now, at most: the hits of the probes that the
/// work does not pass, and what is left of a process at tracepoints.
fn left_by_others() -> Result<u64> {
    let profile = fs::read_to_string(Path::new(TRACEFS).join("kprobe_profile"))?;
    let passed = PASSED.map(|hook| format!("{}_", hook.replace(' ', "_")));
    let others = profile.lines().filter(|line| {
        let name = line.trim_start();
        !passed.iter().any(|passed| name.starts_with(passed))
    });
    let hits = others.map(|line| {
        let hits = line.split_whitespace().nth(1);
        hits.and_then(|hits| hits.parse::<u64>().ok())
    });
    let hits = hits.sum::<Option<u64>>().context("kprobe_profile")?;
    // A fork passes two or three, an exec and an exit as many again.
    Ok(hits + 16 * forks()?)
}

/// A raw stream.
pub struct Stream {
    /// How many records of each hook in [`PASSED`] some threads left.
    seen: HashMap<String, u64>,
    pub lost: Vec<Lost>,
    pub end: End,
}

impl Stream {
    /// Reads a recording, and removes it.
    pub fn recorded(path: &Path, tids: &[i32]) -> Result<Self> {
        let mut bytes = Vec::new();
        Plain::new(File::open(path)?).read_to_end(&mut bytes)?;
        fs::remove_file(path)?;
        Self::read(&bytes, tids)
    }

    pub fn read(mut bytes: &[u8], tids: &[i32]) -> Result<Self> {
        let mut reader = Reader::default();
        let mut names = HashMap::new();
        let (mut seen, mut lost, mut end) = (HashMap::new(), Vec::<Lost>::new(), None);
        let mut latest = Monotonic::default();
        let mut in_order = |ts| {
            if ts < latest {
                bail!("a record of {ts:?} comes after one of {latest:?}");
            }
            latest = ts;
            Ok(())
        };
        loop {
            let Some(record) = reader.take().map_err(Error::msg)? else {
                if reader.fill(&mut bytes)? {
                    continue;
                }
                break;
            };
            match record.kind() {
                "header" => {
                    for hook in record.read::<Header>()?.hooks {
                        names.insert(hook.id, format!("{} {}", hook.subject, hook.role));
                    }
                }
                "raw" => {
                    let raw: Raw = record.read()?;
                    in_order(raw.ts)?;
                    let tid = raw.data[4..8].try_into().map(i32::from_ne_bytes)?;
                    let name = names
                        .get(&raw.id)
                        .context("a hook that is not in the header")?;
                    if tids.contains(&tid) && PASSED.contains(&name.as_str()) {
                        *seen.entry(name.clone()).or_default() += 1;
                    }
                }
                "lost" => {
                    lost.push(record.read()?);
                    in_order(lost[lost.len() - 1].ts)?;
                }
                "end" => end = Some(record.read()?),
                _ => {}
            }
        }
        Ok(Self {
            seen,
            lost,
            end: end.context("the recording has no end")?,
        })
    }

    /// How many records the gaps count that have a count.
    pub fn counted(&self) -> u64 {
        self.lost.iter().filter_map(|lost| lost.count).sum()
    }

    /// Every record that the work made is there or counted as lost. Of others there can be no
    /// more among the lost than what they left.
    pub fn check(&self, report: &mut Report, work: &Work) {
        let missing: u64 = PASSED
            .iter()
            .map(|hook| {
                let seen = self.seen.get(*hook).copied().unwrap_or(0);
                if seen > work.files {
                    report
                        .problems
                        .push(format!("{hook}: {seen} times for {}", work.files));
                }
                work.files.saturating_sub(seen)
            })
            .sum();
        let told = self.counted();
        let all_told = self.lost.iter().all(|lost| lost.count.is_some());
        report.notes.push(format!(
            "{} files made and removed, {} a second, {} records: {} seen, {missing} missing, {} counted as lost",
            work.files,
            work.per_second(),
            4 * work.files,
            4 * work.files - missing,
            self.end.lost,
        ));
        if told > self.end.lost || all_told && told != self.end.lost {
            let end = self.end.lost;
            report.problems.push(format!(
                "the lost records sum up to {told}, the end says {end}"
            ));
        }
        if missing > self.end.lost || self.end.lost > missing + work.others {
            report.problems.push(format!(
                "{missing} records are missing, {} counted as lost, {} of others at most",
                self.end.lost, work.others
            ));
        }
    }
}
