//! Which kernel functions are probed, and what is fetched there: the one table.
//!
//! An operation is told by several hooks, each with a [`Role`]. All of one thread's hooks
//! come in the order in which it ran through them, so st-decode puts them together again
//! by thread, function and stack pointer.
//!
//! Expressions are C without the stars: `dentry->d_inode->i_ino` starts from the function's
//! parameter of that name; `.` enters an embedded struct, `[i]` an array; `(type)` in front
//! casts the parameter to a pointer to that struct. Offsets, sizes and the parameter's
//! place come from BTF, see [`crate::kernel::plan`].

mod directories;
mod files;
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

/// A value to fetch.
#[derive(Debug, Clone, Copy)]
pub enum Fetch {
    /// The stack pointer, as `sp`.
    Stack,
    /// The function's result, as `ret`.
    Return,
    /// A number or pointer, by its expression.
    Number(Value, &'static str),
    /// So many numbers that follow one another: the expression is an array.
    Words(Series, &'static str, usize),
    /// A NUL-terminated string that the expression points to.
    String(Value, &'static str),
    /// A flag, the last member of the expression: a bit field, or from 7.x on a number.
    Flag(Value, &'static str),
    /// `a0`, `a1`, ...: [`crate::record::ARGV`] bytes of the traced process's own memory, from the address
    /// that the expression is, in words of 8 bytes.
    User(&'static str),
    /// `c0`, `c1`, ...: the names from a cgroup's kernfs node upwards; the root's is empty.
    Cgroup(&'static str),
    /// `n0`, `n1`, ...: the names from a dentry upwards, as many as the kernel accepts; and
    /// `i1` and `iN`, the inode numbers of the parent and of the uppermost one named; where
    /// btrfs is in use also its subvolumes' `s0`, `s1` and `sN`, and `magic`.
    Names(&'static str),
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
}

impl Condition {
    /// In the syntax of event filters: Documentation/trace/events.rst, "Event filtering".
    fn filter(self) -> String {
        let each = |value: Value, operator: &str, numbers: &[u64], between: &str| {
            let tests = numbers.iter().map(|n| format!("{value} {operator} {n}"));
            tests.collect::<Vec<_>>().join(between)
        };
        match self {
            Self::AnyOf(value, bits) => format!("{value} & {bits:#x}"),
            Self::NoneOf(value, bits) => format!("!({value} & {bits:#x})"),
            Self::In(value, numbers) => format!("({})", each(value, "==", numbers, " || ")),
            Self::NotIn(value, numbers) => each(value, "!=", numbers, " && "),
            Self::Above(value, number) => format!("{value} > {number}"),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// What it helps to tell.
    pub subject: Subject,
    /// Its part in that.
    pub role: Role,
    /// Where it sits.
    pub point: Point,
    /// What it fetches.
    pub fetch: &'static [Fetch],
    /// Records for which not all of these hold are dropped in the kernel.
    pub conditions: &'static [Condition],
    /// Whether the event cannot be told without it. One that is not needed is left out
    /// where the kernel lacks its function.
    pub needed: bool,
}

const fn hook(subject: Subject, role: Role, point: Point, fetch: &'static [Fetch]) -> Hook {
    Hook {
        subject,
        role,
        point,
        fetch,
        conditions: &[],
        needed: true,
    }
}

/// Declares a constructor of rows at the entry of a function.
macro_rules! at_entry {
    ($($name:ident: $Role:ident),+) => {
        $(const fn $name(event: Event, function: &'static str, fetch: &'static [Fetch]) -> Hook {
            let subject = Subject::Event(event);
            hook(subject, Role::$Role, Point::Enter(function), fetch)
        })+
    };
}
at_entry!(entry: Entry, old: Old, target: Target, detail: Detail, gone: Gone, instant: Instant);

const fn leave(event: Event, function: &'static str) -> Hook {
    let fetch = &[Fetch::Stack, Fetch::Return];
    let subject = Subject::Event(event);
    hook(subject, Role::Return, Point::Leave(function), fetch)
}

const fn inode(function: &'static str, fetch: &'static [Fetch]) -> Hook {
    let subject = Subject::Service(Service::Inode);
    hook(subject, Role::Inode, Point::Enter(function), fetch)
}

const fn service(service: Service, point: Point, fetch: &'static [Fetch]) -> Hook {
    hook(Subject::Service(service), Role::Instant, point, fetch)
}

impl Hook {
    const fn filter(self, conditions: &'static [Condition]) -> Self {
        Self { conditions, ..self }
    }

    const fn optional(self) -> Self {
        Self {
            needed: false,
            ..self
        }
    }

    /// Its conditions as an event filter; empty if there are none.
    pub fn condition(&self) -> String {
        let conditions = self.conditions.iter().map(|condition| condition.filter());
        conditions.collect::<Vec<_>>().join(" && ")
    }

    /// Its name in tracefs and in the stream.
    pub fn name(&self) -> String {
        match self.point {
            Point::Enter(function) => format!("{}_{}_{function}", self.subject, self.role),
            Point::Leave(function) => format!("{}_return_{function}", self.subject),
            Point::Tracepoint(event) => event.rsplit('/').next().unwrap_or(event).to_owned(),
        }
    }

    /// The function or tracepoint.
    pub fn place(&self) -> &'static str {
        let (Point::Enter(place) | Point::Leave(place) | Point::Tracepoint(place)) = self.point;
        place
    }
}

/// All rows of the table.
pub fn hooks() -> impl Iterator<Item = &'static Hook> {
    [
        files::HOOKS,
        sockets::HOOKS,
        directories::HOOKS,
        processes::HOOKS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_become_filters() {
        let filters: Vec<String> = hooks().map(Hook::condition).collect();
        for filter in [
            "valid & 0x5807",
            "magic != 1346981957 && magic != 1397703499 && magic != 151263540",
            "mode & 0x4000 && !(mode & 0xa000)",
            "(family == 2 || family == 10) && (sk_family == 2 || sk_family == 10) && addrlen > 1",
        ] {
            assert!(filters.iter().any(|other| other == filter), "{filter}");
        }
    }

    #[test]
    fn conditions_are_about_what_is_fetched() {
        for hook in hooks() {
            let fetched = |wanted: Value| {
                let is =
                    |fetch: &Fetch| matches!(fetch, Fetch::Number(value, _) if *value == wanted);
                hook.fetch.iter().any(is)
            };
            for condition in hook.conditions {
                let (Condition::AnyOf(value, _)
                | Condition::NoneOf(value, _)
                | Condition::In(value, _)
                | Condition::NotIn(value, _)
                | Condition::Above(value, _)) = *condition;
                assert!(fetched(value), "{} does not fetch {value}", hook.name());
            }
        }
    }
}
