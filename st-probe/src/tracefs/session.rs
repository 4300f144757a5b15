//! A private tracing instance and its probes, taken down when dropped.

use crate::kernel::btf::Btf;
use crate::kernel::format;
use crate::kernel::hooks::{HookRow, Point, hooks};
use crate::kernel::plan::{Lack, Probe, plan};
use crate::stream::arch::Arch;
use crate::stream::record;
use crate::stream::vocabulary::{Class, Event, Service, Subject};
use crate::sys::namespaces::Namespaces;
use crate::sys::uname::Uname;
use crate::tracefs::absent::{Absent, Failure};
use crate::tracefs::counters::{self, Statistics};
use crate::tracefs::files::Tracefs;
use crate::tracefs::guardian::Guardian;
use crate::tracefs::owner::Owner;
use crate::tracefs::teardown;
use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Whether an instance records: Documentation/trace/ftrace.rst.
const TRACING_ON: &str = "tracing_on";

/// Probes defined, in an instance of their own; nothing is recorded before
/// [`Session::enable`].
pub struct Session {
    tracefs: Tracefs,
    /// The name of the instance and of the group of the probes.
    name: String,
    /// Its process ends when everything has been taken down.
    _guardian: Option<Guardian>,
    /// Whether the kernel counts only probes that it did not enter as misses.
    counts_misses: bool,
    /// How many pointers deep a fetch argument was that the kernel refused.
    too_deep: usize,
    /// The hooks whose records have begun: the folders of their events in the instance.
    on: BTreeSet<PathBuf>,
    /// Those that this process is in.
    pub namespaces: Namespaces,
    /// The hooks in force.
    pub hooks: Vec<record::Hook>,
    /// The events that were asked for.
    pub events: Vec<Event>,
    /// Those of them that cannot be traced.
    pub unavailable: Vec<record::Unavailable>,
    /// The optional hooks that are not in force, of what can be traced.
    pub absent: Vec<Absent>,
}

impl Session {
    /// Makes the instance, with a ring buffer of `buffer_kb` KiB for each CPU, and defines the
    /// probes of `events`, and the probe of directories if a `snapshot` is wanted. Takes down
    /// first what processes that were killed have left. There must be one thread only, since the
    /// guardian is forked.
    pub fn open(
        tracefs: Tracefs,
        arch: Arch,
        events: &[Event],
        buffer_kb: u64,
        snapshot: bool,
    ) -> Result<Self> {
        let vmlinux = tracefs.sysfs().btf("vmlinux");
        let btf = fs::read(&vmlinux).with_context(|| {
            format!(
                "cannot read {}: st-probe needs a kernel with CONFIG_DEBUG_INFO_BTF",
                vmlinux.display()
            )
        })?;
        // Absent where btrfs is not in use, and before Linux 5.11.
        let joined = fs::read(tracefs.sysfs().btf("btrfs"))
            .ok()
            .and_then(|module| Btf::joined(&btf, &module));
        let btf =
            Btf::parse(joined.unwrap_or(btf)).with_context(|| vmlinux.display().to_string())?;
        teardown::sweep(&tracefs, |owner, trouble| {
            say!(
                "process {} was killed: what it had left is taken down",
                owner.pid
            );
            for error in trouble {
                say!("left behind: {error:#}");
            }
        })?;
        let namespaces = Namespaces::read(tracefs.proc())?;
        let owner = Owner::this(tracefs.proc())?;
        let guardian = Guardian::start(&owner);
        if let Err(error) = &guardian {
            say!("nothing will be taken down should this be killed: {error:#}");
        }
        let mut session = Self {
            tracefs,
            name: owner.to_string(),
            _guardian: guardian.ok(),
            counts_misses: Uname::read()?.version()? >= (5, 14),
            too_deep: usize::MAX,
            on: BTreeSet::new(),
            namespaces,
            hooks: Vec::new(),
            events: events.to_vec(),
            unavailable: Vec::new(),
            absent: Vec::new(),
        };
        let instance = session.path("");
        fs::create_dir(&instance)
            .with_context(|| format!("cannot create {}", instance.display()))?;
        for (file, text) in [
            ("trace_clock", "mono"),
            ("buffer_size_kb", &buffer_kb.to_string()),
            // Wake a poll at the first record, not when the buffer is half full (from 5.0 on).
            ("buffer_percent", "0"),
        ] {
            session.tracefs.write(session.instance(file), text)?;
        }
        for service in Service::ALL {
            let wanted = match service {
                Service::Directory => snapshot,
                Service::Inode => events.iter().any(|event| event.makes_inode()),
                _ => true,
            };
            if wanted {
                session.add(Subject::Service(*service), &btf, arch);
            }
        }
        // A file that has no name yet is created by link(2).
        let first_names = events.contains(&Event::Create).then_some(Event::Link);
        let told = |event: &&Event| events.contains(event) || first_names == Some(**event);
        for event in Event::ALL.iter().filter(told) {
            session.add(Subject::Event(*event), &btf, arch);
        }
        session.give_up_creates_without_inodes(events);
        let tells = |hook: &record::Hook| match hook.subject {
            Subject::Service(Service::Process) => {
                events.iter().any(|event| event.class() == Class::Process)
            }
            subject => (subject.event()).is_some_and(|event| events.contains(&event)),
        };
        if !session.hooks.iter().any(tells) {
            let why = session
                .unavailable
                .first()
                .map_or("no event was asked for", |first| &first.why);
            bail!("nothing can be traced: {why}");
        }
        Ok(session)
    }

    /// Defines all hooks of an event, or notes why it is not available.
    fn add(&mut self, event: Subject, btf: &Btf, arch: Arch) {
        let (mut defined, mut absent) = (Vec::new(), Vec::new());
        let is_superseded =
            |row: &HookRow| (row.superseded_by).is_some_and(|name| btf.function(name).is_some());
        let rows = hooks().filter(|row| row.subject == event && !is_superseded(row));
        for row in rows {
            let failure = match self.define(row, btf, arch) {
                Ok(hook) => {
                    defined.push(hook);
                    continue;
                }
                Err(failure) => failure,
            };
            match Absent::allowed(row, failure) {
                Ok(hook) => absent.push(hook),
                // Only its part in telling others is missing.
                Err(why)
                    if event
                        .event()
                        .is_some_and(|event| !self.events.contains(&event)) =>
                {
                    self.absent.push(Absent { row, why });
                    return;
                }
                Err(failure) => {
                    let why = failure.to_string();
                    self.unavailable.push(record::Unavailable { event, why });
                    return;
                }
            }
        }
        self.hooks.extend(defined);
        self.absent.extend(absent);
    }

    /// Makes `create` unavailable if the hooks of new inodes are, which tell that one has
    /// succeeded. Of the other events that make inodes they tell only more.
    fn give_up_creates_without_inodes(&mut self, events: &[Event]) {
        let inode = Subject::Service(Service::Inode);
        let create = Subject::Event(Event::Create);
        let mut unavailable = self.unavailable.iter();
        let Some(inodes) = unavailable.find(|unavailable| unavailable.event == inode) else {
            return;
        };
        let why = inodes.why.clone();
        self.unavailable
            .retain(|unavailable| ![inode, create].contains(&unavailable.event));
        self.hooks.retain(|hook| hook.subject != create);
        if events.contains(&Event::Create) {
            self.unavailable
                .push(record::Unavailable { event: create, why });
        }
    }

    /// Defines one hook and reads back how its records look.
    fn define(&mut self, row: &HookRow, btf: &Btf, arch: Arch) -> Result<record::Hook, Failure> {
        let place = self.place(row);
        let probe = plan(row, btf, arch, &self.name)?;
        let names = match row.point {
            Point::Enter(_) | Point::Leave(_) => self.define_probe(&probe)?,
            Point::Tracepoint(_) if self.tracefs.path(&place).exists() => 0,
            Point::Tracepoint(name) => {
                return Err(Failure::Lacking(Lack::Tracepoint(name.to_owned())));
            }
        };
        let (id, fields) = format::parse(&self.tracefs.read(format!("{place}/format"))?)
            .with_context(|| format!("{place}/format is not as expected"))?;
        if !row.conditions.is_empty() {
            let filter = self.instance(&format!("{place}/filter"));
            self.tracefs.write(filter, &row.condition())?;
        }
        Ok(record::Hook {
            id,
            name: row.name(),
            subject: row.subject,
            role: row.role,
            point: row.point.name().to_owned(),
            names,
            fields,
        })
    }

    /// Defines a probe with as many names as the kernel accepts, and tells how many.
    fn define_probe(&mut self, probe: &Probe) -> Result<u32> {
        let mut refused = None;
        let mut too_deep = None;
        for definition in &probe.definitions {
            if definition.names > 1 && definition.depth >= self.too_deep {
                continue;
            }
            match self.tracefs.write("kprobe_events", &definition.line) {
                Ok(()) => {
                    // What the kernel had refused before was only too deep.
                    self.too_deep = too_deep.unwrap_or(self.too_deep);
                    return Ok(definition.names);
                }
                Err(error) => {
                    refused = Some(error);
                    if definition.names > 0 {
                        too_deep = Some(definition.depth);
                    }
                }
            }
        }
        let refused = refused.context("the probe has no definition")?;
        let why = self.tracefs.last_error().unwrap_or_default();
        Err(refused.context(format!("the kernel refused the probe: {why}")))
    }

    /// Lets the records of all hooks with these subjects begin.
    pub fn enable(&mut self, which: impl Fn(Subject) -> bool) -> Result<()> {
        let chosen = hooks().filter(|hook| which(hook.subject));
        // Returns first: a call whose entry is recorded has its return recorded, too.
        let (mut ordered, others): (Vec<&HookRow>, Vec<&HookRow>) =
            chosen.partition(|hook| matches!(hook.point, Point::Leave(_)));
        ordered.extend(others);
        for hook in ordered {
            if self.is_defined(hook) {
                self.switch_hook_on(hook)?;
            }
        }
        Ok(())
    }

    /// Lets a hook's records begin.
    fn switch_hook_on(&mut self, hook: &HookRow) -> Result<()> {
        let place = self.instance(&self.place(hook));
        self.tracefs.write(place.join("enable"), "1")?;
        self.on.insert(place);
        Ok(())
    }

    /// Whether a hook is in force.
    fn is_defined(&self, hook: &HookRow) -> bool {
        (self.hooks.iter()).any(|defined| defined.name == hook.name())
    }

    /// Whether the kernel can record the directories that a walk visits.
    pub fn sees_directories(&self) -> bool {
        (self.hooks.iter()).any(|hook| hook.subject == Subject::Service(Service::Directory))
    }

    /// Lets the records of a service begin, of what the thread `tid` does and of nobody else.
    pub fn follow(&mut self, service: Service, tid: Pid) -> Result<()> {
        for hook in hooks_of(service) {
            if self.is_defined(hook) {
                let filter = self.instance(&format!("{}/filter", self.place(hook)));
                self.tracefs
                    .write(filter, &format!("common_pid == {tid}"))?;
                self.switch_hook_on(hook)?;
            }
        }
        Ok(())
    }

    /// Lets no more records of a service begin.
    pub fn unfollow(&mut self, service: Service) -> Result<()> {
        for hook in hooks_of(service) {
            let place = self.instance(&self.place(hook));
            if self.on.remove(&place) {
                self.tracefs.write(place.join("enable"), "0")?;
            }
        }
        Ok(())
    }

    /// Lets no more records begin, of all hooks at once: an entry without its return would be
    /// taken for a call whose return was missed.
    pub fn disable(&self) -> Result<()> {
        self.tracefs.write(self.instance(TRACING_ON), "0")
    }

    /// The path of a file of the instance.
    pub fn path(&self, file: &str) -> PathBuf {
        self.tracefs.path(self.instance(file))
    }

    /// Opens the ring buffers: the number of each CPU and its `trace_pipe_raw`, which does not
    /// block, by CPU.
    pub fn buffers(&self) -> Result<Vec<(u32, fs::File)>> {
        let folder = self.path("per_cpu");
        let mut buffers = Vec::new();
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let entry = entry?;
            let name = entry.file_name();
            let Some(cpu) = name
                .to_str()
                .and_then(|name| name.strip_prefix("cpu")?.parse().ok())
            else {
                continue;
            };
            let path = entry.path().join("trace_pipe_raw");
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&path);
            buffers.push((
                cpu,
                file.with_context(|| format!("cannot open {}", path.display()))?,
            ));
        }
        buffers.sort_by_key(|buffer| buffer.0);
        Ok(buffers)
    }

    /// How often the kernel did not enter a probe, the probes of all owners together. 0 before
    /// Linux 5.14, which counts each value that could not be fetched, too
    /// (arch/x86/kernel/kprobes/core.c, kprobe_fault_handler): that loses nothing.
    pub fn missed(&self) -> Result<u64> {
        if !self.counts_misses {
            return Ok(0);
        }
        Ok(counters::all_misses(&self.tracefs.read("kprobe_profile")?))
    }

    /// The same of each hook in force. `None` if somebody changed the probes while they were read.
    pub fn misses(&self) -> Result<Option<Vec<u64>>> {
        let probes = teardown::probes(&self.tracefs)?;
        let profile = self.tracefs.read("kprobe_profile")?;
        if teardown::probes(&self.tracefs)? != probes {
            return Ok(None);
        }
        let hooks = (self.hooks.iter()).map(|hook| format!("{}/{}", self.name, hook.name));
        let hooks: Vec<_> = hooks.collect();
        Ok(counters::misses(&profile, &probes, &hooks))
    }

    /// What the kernel has counted of a CPU's ring buffer.
    pub fn statistics(&self, cpu: u32) -> Result<Statistics> {
        let text = self
            .tracefs
            .read(self.instance(&format!("per_cpu/cpu{cpu}/stats")))?;
        Ok(Statistics::parse(&text))
    }

    /// Tells whether somebody has switched off what the session needs, and switches on again what
    /// belongs to the session alone.
    pub fn switch_on(&self) -> Result<Switched> {
        let mut switched = Switched::On;
        let tracing_on = self.instance(TRACING_ON);
        let events = self.on.iter().map(|place| place.join("enable"));
        for file in events.chain([tracing_on]) {
            match self.tracefs.read(&file) {
                Ok(text) if text.starts_with('0') => {
                    // What was removed meanwhile cannot be written to.
                    if self.tracefs.write(&file, "1").is_err() {
                        return Ok(Switched::Removed);
                    }
                    switched = Switched::Off;
                }
                Ok(_) => {}
                Err(_) => return Ok(Switched::Removed),
            }
        }
        // These stop the probes of all owners, so they are left as they are. Not every kernel has
        // them.
        let all = self.tracefs.switches().into_iter();
        let mut all = all.filter_map(|file| fs::read_to_string(file).ok());
        if all.any(|text| text.starts_with('0')) {
            switched = Switched::Off;
        }
        Ok(switched)
    }

    /// The folder of a hook's event, below a tracefs or an instance of it.
    fn place(&self, hook: &HookRow) -> String {
        match hook.point {
            Point::Tracepoint(place) => format!("events/{place}"),
            Point::Enter(_) | Point::Leave(_) => format!("events/{}/{}", self.name, hook.name()),
        }
    }

    fn instance(&self, file: &str) -> PathBuf {
        ["instances", &self.name, file].iter().collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for error in teardown::take_down(&self.tracefs, &self.name) {
            say!("left behind: {error:#}");
        }
    }
}

/// Whether what the session needs was switched on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Switched {
    /// All of it was.
    #[default]
    On,
    /// Somebody had switched off something of the session's own, which is on again, or something
    /// that all sessions need, which is still off.
    Off,
    /// Somebody has removed the session's probes: trace-cmd(1)'s reset does.
    Removed,
}

/// The rows of the hook tables that are there for a service.
fn hooks_of(service: Service) -> impl Iterator<Item = &'static HookRow> {
    hooks().filter(move |hook| hook.subject == Subject::Service(service))
}
