//! What the kernel and the machine are called: uname(2).

use anyhow::{Context, Result};
use std::ffi::OsStr;

/// The names of the running kernel and of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uname {
    /// The architecture: `x86_64`.
    pub machine: String,
    /// The kernel's release: `6.1.0-30-amd64`.
    pub release: String,
    /// The machine's name in its network.
    pub nodename: String,
}

impl Uname {
    /// Those of this machine.
    pub fn read() -> Result<Self> {
        let uname = nix::sys::utsname::uname().context("cannot read the names of the kernel")?;
        Ok(Self {
            machine: text(uname.machine()),
            release: text(uname.release()),
            nodename: text(uname.nodename()),
        })
    }

    /// The first two numbers of the release: 6.1 is (6, 1).
    pub fn version(&self) -> Result<(u32, u32)> {
        let numbers = self.release.split(|c: char| !c.is_ascii_digit());
        let mut numbers = numbers.map_while(|number| number.parse().ok());
        let version = numbers.next().zip(numbers.next());
        version.with_context(|| format!("a kernel of version {}?", self.release))
    }
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_the_version() {
        let mut uname = Uname::read().unwrap();
        uname.version().unwrap();
        for (release, version) in [
            ("5.10.0-34-cloud-amd64", Some((5, 10))),
            ("7.3-rc1", Some((7, 3))),
            ("6.12", Some((6, 12))),
            ("6", None),
            ("next-6.1", None),
            ("", None),
        ] {
            uname.release = release.to_owned();
            assert_eq!(uname.version().ok(), version, "{release}");
        }
    }
}
