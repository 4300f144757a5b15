//! The namespaces that this process is in, as far as they decide what it can see: namespaces(7).

use crate::sys::proc::Proc;
use anyhow::{Context, Result};
use std::io;

/// The inode numbers of the initial namespaces: PROC_PID_INIT_INO and PROC_USER_INIT_INO,
/// include/linux/proc_ns.h.
pub const INITIAL_PID: u64 = 0xefff_fffc;
const INITIAL_USER: u64 = 0xefff_fffd;

/// Which of the namespaces are the initial ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// The pid namespace of this process: the kernel's records have other ids than this process
    /// sees if it is another one.
    pub pid: bool,
    /// The pid namespace that /proc shows: it shows no other processes than those within, by
    /// their ids there.
    pub proc: bool,
    /// The user namespace of this process: /proc shows users and groups as it numbers them.
    pub user: bool,
}

impl Namespaces {
    /// Those of this process, and of `proc`.
    pub fn read(proc: &Proc) -> Result<Self> {
        let this = proc.this();
        // The link is absent if this process is not in the namespace that /proc shows.
        this.stat().context(
            "/proc does not show this process: mount that of its own PID namespace \
             (mount -t proc proc /proc)",
        )?;
        let pid = is(this.pid_ns(), INITIAL_PID).context("cannot read /proc/self/ns/pid")?;
        Ok(Self {
            pid,
            // All namespaces but the initial one are within others: there, process 1 is the first
            // one of the namespace that /proc shows.
            proc: pid || is(proc.process(1).pid_ns(), INITIAL_PID).unwrap_or(false),
            user: is(this.user_ns(), INITIAL_USER).context("cannot read /proc/self/ns/user")?,
        })
    }

    /// What people must know of them.
    pub fn remarks(self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if !self.proc {
            remarks.push(
                "this is a PID namespace of its own, as in a container without --pid=host: of \
                 processes outside nothing is known that they did before, neither name nor user \
                 nor program, and what they mount is not seen; start the container with \
                 --pid=host",
            );
        }
        if !self.user {
            remarks.push(
                "this is a user namespace of its own: users and groups of processes that are \
                 there already are not known; run st-probe as root of the host",
            );
        }
        remarks
    }
}

/// Whether a namespace has this number. A kernel without such namespaces has no file for them.
fn is(namespace: io::Result<u64>, number: u64) -> io::Result<bool> {
    match namespace {
        Ok(namespace) => Ok(namespace == number),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    const INITIAL: &str = "pid:[4026531836]";
    const OTHER: &str = "pid:[4026532198]";

    fn read(own: &str, first: &str, user: &str) -> Result<Namespaces> {
        let folder = Folder::new();
        folder.write("self/stat", "7 (main) S 3");
        folder.link("self/ns/pid", own);
        folder.link("1/ns/pid", first);
        folder.link("self/ns/user", user);
        Namespaces::read(&Proc::at(folder.path("")))
    }

    #[test]
    fn proc_may_show_another_namespace_than_this_processs() {
        for (own, first, pid, proc) in [
            (INITIAL, INITIAL, true, true),
            (OTHER, OTHER, false, false),
            (OTHER, INITIAL, false, true),
            (OTHER, "pid:[4026532000]", false, false),
        ] {
            for (number, user) in [("user:[4026531837]", true), ("user:[4026532197]", false)] {
                let expected = Namespaces { pid, proc, user };
                assert_eq!(read(own, first, number).unwrap(), expected);
            }
        }
    }

    #[test]
    fn the_proc_of_a_container_does_not_show_the_host() {
        let folder = Folder::new();
        folder.link("1/ns/pid", OTHER);
        let error = Namespaces::read(&Proc::at(folder.path(""))).unwrap_err();
        assert!(error.to_string().contains("mount"), "{error}");
    }

    #[test]
    fn says_what_is_missing() {
        let all = Namespaces {
            pid: true,
            proc: true,
            user: true,
        };
        assert!(all.remarks().is_empty());
        let own = Namespaces { pid: false, ..all };
        assert!(own.remarks().is_empty());
        let container = Namespaces { proc: false, ..own };
        assert!(container.remarks()[0].contains("--pid=host"));
        let user = Namespaces { user: false, ..all };
        assert_eq!(user.remarks().len(), 1);
    }
}
