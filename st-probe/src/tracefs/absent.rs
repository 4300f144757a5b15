//! Hooks that are not in force, and what follows from that: `kernel::hooks`, "Optional hooks".

use crate::kernel::hooks::HookRow;
use crate::kernel::plan::{self, Lack};
use std::fmt;

/// Why a hook is not in force.
#[derive(Debug)]
pub enum Failure {
    /// The kernel lacks something.
    Lacking(Lack),
    /// It lacks nothing: mostly, it has refused the probe.
    Refused(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacking(lack) => lack.fmt(f),
            Self::Refused(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<plan::Error> for Failure {
    fn from(error: plan::Error) -> Self {
        match error {
            plan::Error::Lacking(lack) => Self::Lacking(lack),
            plan::Error::Malformed(malformed) => Self::Refused(malformed.into()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Refused(error)
    }
}

/// An optional hook that is not in force.
#[derive(Debug)]
pub struct Absent {
    /// Its row.
    pub row: &'static HookRow,
    /// Why.
    pub why: Failure,
}

impl Absent {
    /// A hook that may be absent for this reason. The error is that it may not: what it tells of
    /// is unavailable.
    pub fn allowed(row: &'static HookRow, why: Failure) -> Result<Self, Failure> {
        match why {
            Failure::Lacking(_) if row.optional => Ok(Self { row, why }),
            Failure::Refused(_) if row.optional && !row.tells_events() => Ok(Self { row, why }),
            why => Err(why),
        }
    }

    /// Whether something may be missed without it: the kernel has its function.
    pub fn matters(&self) -> bool {
        !matches!(
            self.why,
            Failure::Lacking(Lack::Function(_) | Lack::Tracepoint(_))
        )
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "without {}: {}", self.row.point.name(), self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::expression::{Reason, Unresolved};
    use crate::kernel::hooks::hooks;
    use anyhow::anyhow;

    fn row(name: &str) -> &'static HookRow {
        hooks().find(|row| row.name() == name).unwrap()
    }

    fn function() -> Failure {
        Failure::Lacking(Lack::Function("f".into()))
    }

    fn member() -> Failure {
        Failure::Lacking(Lack::Value(Unresolved {
            expression: "a->b".into(),
            function: "f".into(),
            reason: Reason::Member("b".into()),
        }))
    }

    fn refused() -> Failure {
        Failure::Refused(anyhow!("the kernel refused the probe"))
    }

    #[test]
    fn an_optional_hook_may_be_absent_where_the_kernel_lacks_something() {
        for name in [
            "connect_entry___sys_connect_file",
            "inode_inode_d_make_persistent",
            "process_instant_cgroup_post_fork",
            "cgroup_attach_task",
        ] {
            let absent = Absent::allowed(row(name), function()).unwrap();
            assert!(!absent.matters(), "{name}");
            let absent = Absent::allowed(row(name), member()).unwrap();
            assert!(absent.matters(), "{name}");
        }
    }

    #[test]
    fn a_hook_of_an_event_may_not_be_refused() {
        for name in [
            "connect_entry___sys_connect_file",
            "inode_inode_d_make_persistent",
        ] {
            assert!(Absent::allowed(row(name), refused()).is_err(), "{name}");
        }
        for name in ["create_carry_ovl_create", "rmdir_carried_ovl_rmdir"] {
            assert!(Absent::allowed(row(name), refused()).is_ok(), "{name}");
        }
        let row = row("process_instant_cgroup_post_fork");
        let absent = Absent::allowed(row, refused()).unwrap();
        assert!(absent.matters());
        let told = "without cgroup_post_fork: the kernel refused the probe";
        assert_eq!(absent.to_string(), told);
    }

    #[test]
    fn a_hook_that_is_not_optional_may_not_be_absent() {
        let row = row("delete_entry_vfs_unlink");
        for why in [function(), member(), refused()] {
            assert!(Absent::allowed(row, why).is_err());
        }
    }
}
