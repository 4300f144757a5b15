//! Loads: what is traced.

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use std::env;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How many rounds precede those that are counted: they fill the caches.
const WARM_UP: u64 = 100;

/// Repeats the round of a load, and prints what it takes.
pub fn repeat(load: &str, dir: &Path, rounds: u64) -> Result<()> {
    let (one, other) = (dir.join("one"), dir.join("other"));
    let mut round: Box<dyn FnMut() -> io::Result<()>> = match load {
        "files" => Box::new(|| {
            File::create(&one)?;
            fs::remove_file(&one)
        }),
        "directories" => Box::new(|| {
            fs::create_dir(&one)?;
            fs::rename(&one, &other)?;
            fs::set_permissions(&other, Permissions::from_mode(0o700))?;
            fs::remove_dir(&other)
        }),
        "links" | "opens" => {
            let existing = dir.join("existing");
            File::options().create(true).append(true).open(&existing)?;
            if load == "opens" {
                Box::new(move || File::open(&existing).map(drop))
            } else {
                let one = &one;
                Box::new(move || {
                    fs::hard_link(&existing, one)?;
                    fs::remove_file(one)
                })
            }
        }
        "processes" => {
            let mut nothing = Command::new(env::current_exe()?);
            nothing.arg("nothing");
            Box::new(move || nothing.status().map(drop))
        }
        _ => bail!("no such load: '{load}'"),
    };
    let mut run = |rounds: u64| -> Result<()> {
        for _ in 0..rounds {
            round().with_context(|| format!("cannot work in {}", dir.display()))?;
        }
        Ok(())
    };
    run(WARM_UP)?;
    let before = cpu_time()?;
    run(rounds)?;
    let used = cpu_time()? - before;
    println!(
        "{} {}",
        used.as_nanos() / u128::from(rounds),
        WARM_UP + rounds
    );
    Ok(())
}

/// How long this process and its children that have ended were on a CPU.
fn cpu_time() -> Result<Duration> {
    // What /proc/self/schedstat shows may be as old as the last tick.
    let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros =
        |time: TimeVal| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    Ok(Duration::from(own) + micros(children.user_time()) + micros(children.system_time()))
}
