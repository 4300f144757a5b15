//! The first record of the stream.

use crate::stream::arch::Arch;
use crate::stream::record::{Header, MAGIC, VERSION};
use crate::stream::vocabulary::Order;
use crate::sys::clock;
use crate::sys::proc::Proc;
use crate::sys::uname::Uname;
use crate::tracefs::session::Session;
use crate::tracing::walks::Walks;
use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs;

/// Describes this machine, the session and the walks. `cpus` is how many CPUs have a ring buffer,
/// `child` the process that runs the command.
pub fn header(session: &Session, walks: &Walks, cpus: u32, child: Option<Pid>) -> Result<Header> {
    let uname = Uname::read()?;
    let boot_id = fs::read_to_string(Proc::default().sysctl("kernel/random/boot_id"));
    let boot_id = boot_id.context("cannot read the boot id")?;
    let page_size = sysconf(SysconfVar::PAGE_SIZE).context("cannot tell the page size")?;
    let (monotonic, realtime) = clock::both()?;
    Ok(Header {
        magic: MAGIC.into(),
        version: VERSION,
        stages: vec!["st-probe".into()],
        kernel: uname.release,
        stack_delta: Arch::of(&uname.machine).map_or(0, |arch| arch.stack_delta),
        machine: uname.machine,
        host: uname.nodename,
        byte_order: Order::NATIVE,
        page_size: page_size.unwrap_or(0) as u32,
        cpus,
        boot_id: boot_id.trim().into(),
        monotonic,
        realtime,
        hooks: session.hooks.clone(),
        events: session.events.clone(),
        unavailable: session.unavailable.clone(),
        snapshot: walks.has_roots(),
        answers: walks.answers(),
        command: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        child: child.map(Pid::as_raw),
    })
}
