//! The values that options take: how they are written, and what they match.
//!
//! Errors are messages for people, which tell what can be written instead.

use crate::glob::Glob;
use ipnet::IpNet;
use st_pathtree::vocabulary::Event;
use std::net::IpAddr;
use std::str::FromStr;

/// Reads the name of an event.
pub fn event(name: &str) -> Result<Event, String> {
    Event::from_name(name).ok_or_else(|| {
        let names = Event::list(Event::ALL.iter().copied());
        format!("no such event; the events are {names}")
    })
}

/// A [`Glob`] on paths. A pattern without `/` must match the last component; one that begins
/// with `/` the whole path; any other the end of the path, from the start of some component.
#[derive(Debug, Clone)]
pub struct PathPattern {
    glob: Glob,
    last_component: bool,
}

impl PathPattern {
    /// Reads a pattern.
    pub fn new(pattern: &[u8]) -> Result<Self, String> {
        match pattern {
            [] => return Err("an empty pattern matches no path".into()),
            [_, .., b'/'] => {
                return Err("no path ends with '/'; for all below a directory write DIR/**".into());
            }
            _ => {}
        }
        let last_component = !pattern.contains(&b'/');
        let glob = if last_component || pattern[0] == b'/' {
            Glob::path(pattern)?
        } else {
            Glob::path(&[b"**/", pattern].concat())?
        };
        Ok(Self {
            glob,
            last_component,
        })
    }

    /// Whether the path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        let name = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) if self.last_component => &path[slash + 1..],
            _ => path,
        };
        self.glob.matches(name)
    }
}

/// The addresses of a network; one address is a network, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether the network contains an address. An IPv4-mapped IPv6 address (RFC 4291 section
    /// 2.5.5.2) counts as the IPv4 address, too.
    pub fn contains(self, addr: IpAddr) -> bool {
        self.0.contains(&addr) || self.0.contains(&addr.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| {
            "not an address or network; write 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32".to_string()
        })?;
        let Some(prefix) = prefix else {
            return Ok(Self(addr.into()));
        };
        let network = prefix.parse().ok();
        match network.and_then(|prefix| IpNet::new(addr, prefix).ok()) {
            Some(network) => Ok(Self(network.trunc())),
            None => {
                let most = IpNet::from(addr).max_prefix_len();
                Err(format!(
                    "the prefix length must be a number from 0 to {most}"
                ))
            }
        }
    }
}

/// A range of ports; one port is a range, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Whether a port is in the range.
    pub fn contain(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            (Ok(_), Ok(_)) => Err("the range ends before it begins".into()),
            _ => Err("not a port or range; write 443 or 8000-8999, up to 65535".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str, path: &str) -> bool {
        PathPattern::new(pattern.as_bytes())
            .unwrap()
            .matches(path.as_bytes())
    }

    fn network(network: &str, addr: &str) -> bool {
        network
            .parse::<Network>()
            .unwrap()
            .contains(addr.parse().unwrap())
    }

    #[test]
    fn an_unknown_event_is_answered_with_the_list() {
        assert_eq!(event("unlisten"), Ok(Event::Unlisten));
        let message = event("open").unwrap_err();
        assert!(message.contains("create, mkdir, mknod"), "{message}");
        assert!(message.contains("unlisten"), "{message}");
        assert!(event("other").is_err());
        assert!(event("").is_err());
    }

    #[test]
    fn a_pattern_without_slash_is_about_the_last_component() {
        assert!(path("*.rs", "/src/a.rs"));
        assert!(path("a.rs", "a.rs"));
        assert!(path("**.rs", "/src/a.rs"));
        assert!(!path("src", "/src/a.rs"));
        assert!(!path("s**", "/src/a.rs"));
        assert!(!path("*.rs", "/a.rs/b"));
    }

    #[test]
    fn a_pattern_from_the_root_is_about_the_whole_path() {
        assert!(path("/src/*", "/src/a"));
        assert!(!path("/src/*", "/home/src/a"));
        assert!(!path("/src/*", "src/a"), "of a path known in part only");
        assert!(path("/", "/"));
        assert!(!path("/", "/a"));
    }

    #[test]
    fn a_relative_pattern_may_begin_at_any_component() {
        assert!(path("src/*.rs", "/src/a.rs"));
        assert!(path("src/*.rs", "/home/me/src/a.rs"));
        assert!(path("src/*.rs", "src/a.rs"));
        assert!(!path("src/*.rs", "/mysrc/a.rs"));
        assert!(!path("src/*.rs", "/src/deep/a.rs"));
        assert!(path("**/src/*.rs", "/home/src/a.rs"));
    }

    #[test]
    fn patterns_that_could_never_match_are_refused() {
        assert!(PathPattern::new(b"").is_err());
        let message = PathPattern::new(b"/srv/").unwrap_err();
        assert!(message.contains("/**"), "{message}");
    }

    #[test]
    fn networks() {
        assert!(network("192.0.2.0/24", "192.0.2.255"));
        assert!(!network("192.0.2.0/24", "192.0.3.0"));
        assert!(
            network("192.0.2.77/24", "192.0.2.1"),
            "host bits are let go"
        );
        assert!(network("192.0.2.1", "192.0.2.1"));
        assert!(!network("192.0.2.1", "192.0.2.2"));
        assert!(network("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!network("2001:db8::/32", "2001:db9::1"));
        assert!(network("::1", "::1"));
        assert!(!network("::1", "::2"));
    }

    #[test]
    fn a_whole_family() {
        assert!(network("0.0.0.0/0", "203.0.113.9"));
        assert!(network("::/0", "2001:db8::1"));
        assert!(!network("0.0.0.0/0", "2001:db8::1"));
        assert!(!network("::/0", "203.0.113.9"));
    }

    #[test]
    fn an_ipv4_mapped_address_is_in_both_families() {
        assert!(network("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(network("::ffff:0:0/96", "::ffff:192.0.2.1"));
        assert!(!network("198.51.100.0/24", "::ffff:192.0.2.1"));
        assert!(!network("0.0.0.0/0", "::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "example.org",
            "192.0.2",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/-1",
            "::/129",
            "192.0.2.0/24/1",
            "[::1]",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        let one: Ports = "443".parse().unwrap();
        assert!(one.contain(443) && !one.contain(442) && !one.contain(444));
        let range: Ports = "8000-8999".parse().unwrap();
        assert!(range.contain(8000) && range.contain(8999));
        assert!(!range.contain(7999) && !range.contain(9000));
        for text in ["", "-", "http", "65536", "80-", "-80", "90-80", "1-2-3"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }
}
