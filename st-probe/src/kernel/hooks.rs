//! The hook table: which kernel functions are probed, and what is fetched there.
//!
//! An operation is told by several hooks, each with a [`Role`]. The records of one thread are in
//! the order in which it ran through the hooks, so st-decode joins them by thread, function and
//! stack pointer.
//!
//! What a row fetches is written as expressions, such as `dentry->d_inode->i_ino`: their grammar
//! is in [`crate::kernel::expression`]. Registers, offsets and sizes are those of the running
//! kernel, see [`crate::kernel::plan`].
//!
//! # Optional hooks
//!
//! An event can be traced if all of its hooks that are not optional are in force. An optional hook
//! may be absent
//! - because the kernel lacks its function or tracepoint: no operation passes there, so nothing is
//!   missed, and only `st-probe --check` tells.
//! - because the kernel lacks a parameter, struct or member that the hook fetches: operations pass
//!   there and are not seen, so st-probe also says so when it begins to trace.
//!
//! An optional hook may not be absent because the kernel refuses its probe though it lacks none of
//! these: then the event is unavailable, with the kernel's words, rather than missed in part. That
//! is so for the hooks of events and of [`Service::Inode`], which tells of `create`. The optional
//! hooks of the other services, and those with the roles [`Role::Carry`] and [`Role::Carried`], tell
//! more about events, and events do not hang on them: one that is refused is absent, and st-probe
//! says so when it begins to trace.
//!
//! # Adding an event
//!
//! 1. Add its case to [`Event`], and its facts, for which the compiler asks there. The options and
//!    the helps of the stages then list it.
//! 2. Add its rows to the table of its class, by the constructors of this file. `entry` and
//!    `leave` are the call that succeeds or fails; `old`, `target` and `detail` tell more
//!    of it; `instant` tells a whole event by itself. For a function that only some kernels
//!    have, the row is `optional`.
//! 3. A value that no hook has fetched before is a new case of [`Value`]. st-decode takes it from
//!    the record, and `st_decode::event::EventRecord` has a field for it.
//! 4. The compiler asks in st-format for the event's colour and its details in text. JSON has all
//!    fields of the record already.
//! 5. `cargo test -p st-probe` finds malformed expressions, and conditions on values that are not
//!    fetched. `st-probe --check --event NAME` tells what a kernel lacks: run it on each.
//! 6. The README's table of events gets a line.

mod acls;
mod clock;
mod directories;
mod files;
mod mounts;
mod processes;
mod sockets;

use crate::stream::vocabulary::{Event, Role, Series, Service, Subject, Value};

/// Where a hook sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// At the entry of a kernel function.
    Enter(&'static str),
    /// At its return.
    Leave(&'static str),
    /// At a static tracepoint, `group/event`.
    Tracepoint(&'static str),
}

impl Point {
    /// The function or tracepoint.
    pub const fn name(self) -> &'static str {
        let (Self::Enter(name) | Self::Leave(name) | Self::Tracepoint(name)) = self;
        name
    }
}

/// What a hook fetches: one value, or several that follow one another in memory. The texts are
/// expressions.
#[derive(Debug, Clone, Copy)]
pub enum Fetch {
    /// The stack pointer, as `sp`.
    Stack,
    /// The function's result, as `ret`.
    Return,
    /// A number or pointer.
    Number(Value, &'static str),
    /// The same, left out on a kernel that lacks what the expression names.
    Optional(Value, &'static str),
    /// A number of 4 bytes in a variable of the kernel, by the variable's symbol. Left out if the
    /// kernel does not find it: symbols of variables need CONFIG_KALLSYMS_ALL. Several variables
    /// may have the symbol: whoever reads the number must see whether it is the right one.
    Variable(Value, &'static str),
    /// So many elements of an array, from its first one on: one value, in words.
    Words(Series, &'static str, usize),
    /// The NUL-terminated string that a pointer points to.
    String(Value, &'static str),
    /// A bit field, which is a number from 7.x on.
    Flag(Value, &'static str),
    /// [`crate::record::ARGV`] bytes of the traced process's own memory, from the address that
    /// the expression is, as words of 8 bytes: `a0`, `a1`, ...
    User(&'static str),
}

/// Names that a hook fetches after all else, as many as the kernel accepts. The texts are
/// expressions.
#[derive(Debug, Clone, Copy)]
pub enum Chain {
    /// `n0`, `n1`, ...: the names from a dentry upwards; and `i1` and `iN`, the inode numbers of
    /// the parent and of the uppermost one named; where btrfs is in use also the numbers of their
    /// subvolumes, `s0`, `s1` and `sN`, and `magic`.
    Dentry(&'static str),
    /// `c0`, `c1`, ...: the names from a cgroup's kernfs node upwards; the root's is empty.
    Cgroup(&'static str),
}

/// What a fetched value must be like for its record to be kept.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// It has one of these bits at least.
    AnyOf(Value, u64),
    /// It has none of these bits.
    NoneOf(Value, u64),
    /// It is one of these.
    In(Value, &'static [u64]),
    /// It is none of these.
    NotIn(Value, &'static [u64]),
    /// It is more than this.
    Above(Value, u64),
    /// It is this string.
    Is(Value, &'static str),
}

impl Condition {
    /// In the syntax of event filters: Documentation/trace/events.rst, "Event filtering".
    fn filter(self) -> String {
        match self {
            Self::AnyOf(value, bits) => format!("{value} & {bits:#x}"),
            Self::NoneOf(value, bits) => format!("!({value} & {bits:#x})"),
            Self::In(value, numbers) => format!("({})", compare(value, "==", numbers, " || ")),
            Self::NotIn(value, numbers) => compare(value, "!=", numbers, " && "),
            Self::Above(value, number) => format!("{value} > {number}"),
            Self::Is(value, text) => format!("{value} == \"{text}\""),
        }
    }
}

/// A comparison with each number, joined.
fn compare(value: Value, operator: &str, numbers: &[u64], between: &str) -> String {
    let tests = numbers.iter().map(|n| format!("{value} {operator} {n}"));
    tests.collect::<Vec<_>>().join(between)
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct HookRow {
    /// What it helps to tell.
    pub subject: Subject,
    /// Its part in that.
    pub role: Role,
    /// Where it sits.
    pub point: Point,
    /// What it fetches.
    pub fetch: &'static [Fetch],
    /// The names that it fetches after that.
    pub chain: Option<Chain>,
    /// Records for which not all of these hold are dropped in the kernel.
    pub conditions: &'static [Condition],
    /// Whether it may be absent, see the [module](self).
    pub optional: bool,
    /// On a kernel that has this function, no operation that the hook is for passes its point.
    pub superseded_by: Option<&'static str>,
    /// The module that has the function where the kernel itself does not, loaded or not: the
    /// kernel sets the probe when it loads the module. Nothing is known of the function's
    /// parameters then.
    pub module: Option<&'static str>,
}

const fn row(subject: Subject, role: Role, point: Point, fetch: &'static [Fetch]) -> HookRow {
    HookRow {
        subject,
        role,
        point,
        fetch,
        chain: None,
        conditions: &[],
        optional: false,
        superseded_by: None,
        module: None,
    }
}

/// A row at the entry of a function.
const fn enter(
    event: Event,
    role: Role,
    function: &'static str,
    fetch: &'static [Fetch],
) -> HookRow {
    row(Subject::Event(event), role, Point::Enter(function), fetch)
}

/// A call of a function begins. Its names are those of the path.
const fn entry(event: Event, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    enter(event, Role::Entry, function, fetch)
}

/// The same call, with the names of the old path: one record cannot hold two chains.
const fn old(event: Event, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    enter(event, Role::Old, function, fetch)
}

/// The same call, with a symbolic link's content.
const fn target(event: Event, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    enter(event, Role::Target, function, fetch)
}

/// Further in, within the call that an [`entry`] of this event began.
const fn detail(event: Event, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    enter(event, Role::Detail, function, fetch)
}

/// A dentry loses its inode: what an [`entry`] of this event announced is done.
const fn gone(event: Event, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    enter(event, Role::Gone, function, fetch)
}

/// The whole event.
const fn instant(event: Event, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    enter(event, Role::Instant, function, fetch)
}

/// The return of a function.
const fn at_return(event: Event, role: Role, function: &'static str) -> HookRow {
    let fetch = &[Fetch::Stack, Fetch::Return];
    row(Subject::Event(event), role, Point::Leave(function), fetch)
}

/// The return of a call that an [`entry`] of this event began.
const fn leave(event: Event, function: &'static str) -> HookRow {
    at_return(event, Role::Return, function)
}

/// overlayfs begins to carry out on its layers what an [`entry`] of this event announced.
const fn carry(event: Event, function: &'static str) -> HookRow {
    enter(event, Role::Carry, function, &[Fetch::Stack]).of_overlayfs()
}

/// It has carried that out, or failed to.
const fn carried(event: Event, function: &'static str) -> HookRow {
    at_return(event, Role::Carried, function).of_overlayfs()
}

/// A dentry gets a new inode: what an [`entry`] of an event that makes one announced is done.
const fn inode(function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    let subject = Subject::Service(Service::Inode);
    row(subject, Role::Inode, Point::Enter(function), fetch)
}

/// What is no event by itself.
const fn service(service: Service, point: Point, fetch: &'static [Fetch]) -> HookRow {
    row(Subject::Service(service), Role::Instant, point, fetch)
}

impl HookRow {
    /// With the names from a dentry upwards.
    const fn names(self, dentry: &'static str) -> Self {
        let chain = Some(Chain::Dentry(dentry));
        Self { chain, ..self }
    }

    /// With the names from a cgroup's kernfs node upwards.
    const fn cgroup(self, node: &'static str) -> Self {
        let chain = Some(Chain::Cgroup(node));
        Self { chain, ..self }
    }

    /// Only where these conditions hold.
    const fn filter(self, conditions: &'static [Condition]) -> Self {
        Self { conditions, ..self }
    }

    /// It may be absent, see the [module](self).
    const fn optional(self) -> Self {
        let optional = true;
        Self { optional, ..self }
    }

    /// Only on kernels that lack this function, and optional: on the others it would only cost.
    const fn before(self, function: &'static str) -> Self {
        let superseded_by = Some(function);
        Self {
            superseded_by,
            ..self.optional()
        }
    }

    /// The function is overlayfs's own, which the kernel itself may have, or a module, or nobody.
    const fn of_overlayfs(self) -> Self {
        let module = Some("overlay");
        Self { module, ..self }.optional()
    }

    /// Its conditions as an event filter; empty if there are none.
    pub fn condition(&self) -> String {
        let conditions = self.conditions.iter().map(|condition| condition.filter());
        conditions.collect::<Vec<_>>().join(" && ")
    }

    /// Its name in tracefs and in the stream.
    pub fn name(&self) -> String {
        match self.point {
            Point::Enter(function) | Point::Leave(function) => {
                format!("{}_{}_{function}", self.subject, self.role)
            }
            Point::Tracepoint(event) => event.rsplit('/').next().unwrap_or(event).to_owned(),
        }
    }

    /// Whether events may be missed if it is absent though operations pass its function.
    pub fn tells_events(&self) -> bool {
        match self.subject {
            Subject::Event(_) | Subject::Service(Service::Inode) => !self.role.tells_of_layers(),
            Subject::Service(_) | Subject::Other => false,
        }
    }
}

/// All rows of the table.
pub fn hooks() -> impl Iterator<Item = &'static HookRow> {
    [
        files::HOOKS,
        acls::HOOKS,
        sockets::HOOKS,
        directories::HOOKS,
        mounts::HOOKS,
        processes::HOOKS,
        clock::HOOKS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::expression::Expression;

    #[test]
    fn expressions_are_of_the_grammar() {
        for row in hooks() {
            let mut expressions: Vec<&str> = Vec::new();
            for fetch in row.fetch {
                match *fetch {
                    Fetch::Stack | Fetch::Return | Fetch::Variable(..) => {}
                    Fetch::Number(_, text)
                    | Fetch::Optional(_, text)
                    | Fetch::Words(_, text, _)
                    | Fetch::String(_, text)
                    | Fetch::Flag(_, text)
                    | Fetch::User(text) => expressions.push(text),
                }
            }
            if let Some(Chain::Dentry(text) | Chain::Cgroup(text)) = row.chain {
                expressions.push(text);
            }
            for text in expressions {
                let parsed = Expression::parse(text);
                assert!(parsed.is_ok(), "{}: {}", row.name(), parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn conditions_become_filters() {
        let filters: Vec<String> = hooks().map(HookRow::condition).collect();
        for filter in [
            "valid & 0x5807",
            "magic != 1346981957 && magic != 1397703499 && magic != 151263540",
            "mode & 0x4000 && !(mode & 0xa000)",
            "(family == 2 || family == 10) && (sk_family == 2 || sk_family == 10) && addrlen > 1",
            "name == \"system.posix_acl_access\"",
            "(is_sendmsg == 1) && (state == 1) && (family == 2 || family == 10) && \
             (sk_family == 2 || sk_family == 10) && addrlen > 1",
        ] {
            assert!(filters.iter().any(|other| other == filter), "{filter}");
        }
    }

    #[test]
    fn conditions_are_about_what_is_fetched() {
        for hook in hooks() {
            let fetched = |wanted: Value| {
                hook.fetch.iter().any(|fetch| match fetch {
                    Fetch::Number(value, _) | Fetch::String(value, _) => *value == wanted,
                    _ => false,
                })
            };
            for condition in hook.conditions {
                let (Condition::AnyOf(value, _)
                | Condition::NoneOf(value, _)
                | Condition::In(value, _)
                | Condition::NotIn(value, _)
                | Condition::Above(value, _)
                | Condition::Is(value, _)) = *condition;
                assert!(fetched(value), "{} does not fetch {value}", hook.name());
            }
        }
    }
}
