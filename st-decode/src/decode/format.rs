//! What the raw records of each hook mean, resolved once, at the header.

use crate::calls::CallHook;
use crate::field::Layout;
use crate::mount::AttachHook;
use crate::pair::Function;
use crate::process::TaskHook;
use st_probe::record::{Header, Hook};
use st_probe::vocabulary::{Event, Role, Service, Subject};

/// What the raw records of one hook mean, and where their values are.
#[derive(Debug)]
pub struct RawFormat {
    /// What they mean.
    pub meaning: Meaning,
    /// Where their values are.
    pub layout: Layout,
}

/// What raw records tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Something of a call that makes an event.
    Call(CallHook),
    /// Something of processes and threads.
    Task(TaskHook),
    /// A socket ceased to listen.
    Unlisten,
    /// Where a directory is that a walk looks at.
    Directory,
    /// A file system is no longer mounted anywhere.
    Shutdown,
    /// A mount gets its place: one of two records.
    Attach(AttachHook),
    /// A mount is no longer in a mount namespace.
    Detach,
    /// A mount namespace is to be made: its mounts are copied.
    Copy,
    /// That is done, or failed.
    Namespace,
}

impl Meaning {
    /// What the records of a hook tell. `None`: nothing that this stage reads, or something of a
    /// later version.
    fn of(subject: Subject, role: Role, point: &str, function: Function) -> Option<Self> {
        match (subject, role) {
            (_, Role::Other) | (Subject::Other, _) => None,
            (Subject::Event(Event::Unlisten), Role::Instant) => Some(Self::Unlisten),
            (Subject::Event(event), _) => CallHook::of(event, role, function).map(Self::Call),
            (Subject::Service(service), _) => match service {
                Service::Process | Service::Alive => TaskHook::at(point, role).map(Self::Task),
                Service::Inode => Some(Self::Call(CallHook::NewInode)),
                Service::Directory => Some(Self::Directory),
                Service::Shutdown => Some(Self::Shutdown),
                Service::Attach => AttachHook::of(role).map(Self::Attach),
                Service::Detach => Some(Self::Detach),
                Service::Namespace => match role {
                    Role::Instant => Some(Self::Copy),
                    Role::Return => Some(Self::Namespace),
                    _ => None,
                },
                Service::Clock | Service::Mount | Service::Other => None,
            },
        }
    }
}

/// The formats of a stream's raw records, by [`Hook::id`].
pub fn formats(header: &Header) -> Vec<Option<RawFormat>> {
    let mut formats = Vec::new();
    let mut functions = Vec::new();
    for hook in &header.hooks {
        let function = function(&mut functions, hook);
        let meaning = Meaning::of(hook.subject, hook.role, &hook.point, function);
        let id = usize::from(hook.id);
        if formats.len() <= id {
            formats.resize_with(id + 1, || None);
        }
        formats[id] = meaning.map(|meaning| RawFormat {
            meaning,
            layout: Layout::new(header.byte_order, &hook.fields),
        });
    }
    formats
}

/// The number of the function that a hook is at.
fn function<'a>(functions: &mut Vec<&'a str>, hook: &'a Hook) -> Function {
    let known = functions
        .iter()
        .position(|function| *function == hook.point);
    Function(known.unwrap_or_else(|| {
        functions.push(&hook.point);
        functions.len() - 1
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use st_probe::kernel::hooks::hooks;

    #[test]
    fn every_hook_of_st_probe_has_a_meaning() {
        for row in hooks() {
            let meaning = Meaning::of(row.subject, row.role, row.point.name(), Function(0));
            // st-probe alone reads these.
            let is_read_elsewhere = matches!(
                row.subject,
                Subject::Service(Service::Clock | Service::Mount)
            );
            assert_eq!(meaning.is_none(), is_read_elsewhere, "{row:?}");
        }
    }

    #[test]
    fn a_hook_of_a_later_version_means_nothing() {
        for (subject, role, point) in [
            (Subject::Other, Role::Entry, "vfs_unlink"),
            (Subject::Event(Event::Delete), Role::Other, "vfs_unlink"),
            (Subject::Event(Event::Delete), Role::Instant, "vfs_unlink"),
            (Subject::Event(Event::Exec), Role::Entry, "begin_new_exec"),
            (Subject::Service(Service::Process), Role::Instant, "setsid"),
            (
                Subject::Service(Service::Attach),
                Role::Gone,
                "make_visible",
            ),
        ] {
            assert_eq!(Meaning::of(subject, role, point, Function(0)), None);
        }
    }
}
