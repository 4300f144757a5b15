//! All conditions of a filter together: values of one option are joined by "or", different
//! options by "and".

use crate::glob::Glob;
use crate::predicate::{Network, PathPattern, Ports};
use st_pathtree::event::EventRecord;
use st_pathtree::time::Unix;
use st_pathtree::vocabulary::Event;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

/// What an event must be like to match. Each list that is not empty is a condition: one of its
/// values must match. An event that lacks what a condition is about does not match.
#[derive(Debug, Clone, Default)]
pub struct Expression {
    /// What happened: [`EventRecord::event`].
    pub events: Vec<Event>,
    /// The first instant at which it may have happened.
    pub since: Option<Unix>,
    /// The first instant after that at which it may not.
    pub until: Option<Unix>,
    /// The id of the process.
    pub pids: Vec<i32>,
    /// That of its parent.
    pub ppids: Vec<i32>,
    /// The real user.
    pub uids: Vec<u32>,
    /// The user who logged in.
    pub loginuids: Vec<u32>,
    /// The name of the thread.
    pub comms: Vec<Glob>,
    /// The path of the file that the process executes.
    pub exes: Vec<PathPattern>,
    /// The id of the container, or the beginning of that.
    pub containers: Vec<OsString>,
    /// The path of the cgroup.
    pub cgroups: Vec<PathPattern>,
    /// The path, or the old path.
    pub paths: Vec<PathPattern>,
    /// The address that an event on a socket is about.
    pub addrs: Vec<Network>,
    /// The port that an event on a socket is about.
    pub ports: Vec<Ports>,
    /// Whether an event matches exactly if it does not hold all conditions.
    pub invert: bool,
}

impl Expression {
    /// Whether an event matches. `within` is one condition more: whether the process of the
    /// event is one of those that are asked for.
    pub fn matches(&self, event: &EventRecord, within: bool) -> bool {
        (within && self.holds(event)) != self.invert
    }

    // Conditions that cost little come first: an address must be parsed, and a path searched.
    fn holds(&self, event: &EventRecord) -> bool {
        let is_in_time = self.since.is_none_or(|since| event.ts >= since)
            && self.until.is_none_or(|until| event.ts < until);
        is_in_time
            && any(
                &self.events,
                || Some(event.event),
                |wanted, kind| wanted == kind,
            )
            && any(
                &self.pids,
                || event.process.pid,
                |wanted, pid| wanted == pid,
            )
            && any(
                &self.ppids,
                || event.process.ppid,
                |wanted, ppid| wanted == ppid,
            )
            && any(
                &self.uids,
                || event.process.uid,
                |wanted, uid| wanted == uid,
            )
            && any(
                &self.loginuids,
                || event.process.loginuid,
                |wanted, loginuid| wanted == loginuid,
            )
            && any(
                &self.ports,
                || event.port,
                |ports, &port| ports.contain(port),
            )
            && any(
                &self.comms,
                || event.process.comm.as_deref(),
                |glob, comm| glob.matches(comm),
            )
            && any(
                &self.containers,
                || event.process.container.as_deref(),
                |wanted, id| id.starts_with(wanted.as_bytes()),
            )
            && any(
                &self.exes,
                || event.process.exe.as_deref(),
                |pattern, exe| pattern.matches(exe),
            )
            && any(
                &self.cgroups,
                || event.process.cgroup.as_deref(),
                |pattern, cgroup| pattern.matches(cgroup),
            )
            && any(
                &self.addrs,
                || event.addr?.parse::<IpAddr>().ok(),
                |network, &addr| network.contains(addr),
            )
            && (any(
                &self.paths,
                || event.path.as_deref(),
                |pattern, path| pattern.matches(path),
            ) || any(
                &self.paths,
                || event.old_path.as_deref(),
                |pattern, path| pattern.matches(path),
            ))
    }
}

/// Whether there are no predicates, or there is a value for which `test` holds with one of them.
fn any<P, T>(
    predicates: &[P],
    value: impl FnOnce() -> Option<T>,
    test: impl Fn(&P, &T) -> bool,
) -> bool {
    predicates.is_empty()
        || value().is_some_and(|value| predicates.iter().any(|predicate| test(predicate, &value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::event as kind;
    use st_pathtree::event::{Actor, Bytes};

    fn glob(pattern: &str) -> Glob {
        Glob::name(pattern.as_bytes()).unwrap()
    }

    fn path(pattern: &str) -> PathPattern {
        PathPattern::new(pattern.as_bytes()).unwrap()
    }

    fn event(event: Event) -> EventRecord<'static> {
        EventRecord {
            event,
            ts: Unix::default(),
            seq: 0,
            cpu: 0,
            process: Actor {
                tid: 41,
                ..Actor::default()
            },
            ..EventRecord::default()
        }
    }

    fn rename() -> EventRecord<'static> {
        EventRecord {
            process: Actor {
                pid: Some(40),
                tid: 41,
                comm: Some(Bytes::from(&b"git"[..])),
                uid: Some(1000),
                loginuid: Some(500),
                exe: Some(Bytes::from(&b"/usr/bin/git"[..])),
                container: Some(Bytes::from(&b"0123abcd"[..])),
                ..Actor::default()
            },
            path: Some(Bytes::from(&b"/srv/new"[..])),
            old_path: Some(Bytes::from(&b"/tmp/old"[..])),
            ..event(Event::Rename)
        }
    }

    fn connect() -> EventRecord<'static> {
        EventRecord {
            addr: Some("192.0.2.7"),
            port: Some(443),
            ..event(Event::Connect)
        }
    }

    #[test]
    fn nothing_asked_matches_everything_and_inverted_nothing() {
        let mut expression = Expression::default();
        assert!(expression.matches(&rename(), true));
        assert!(expression.matches(&event(Event::Other), true));
        expression.invert = true;
        assert!(!expression.matches(&rename(), true));
        assert!(!expression.matches(&event(Event::Other), true));
    }

    #[test]
    fn values_of_one_option_are_or_ed() {
        let expression = Expression {
            events: vec![kind("create").unwrap(), kind("rename").unwrap()],
            ..Expression::default()
        };
        assert!(expression.matches(&rename(), true));
        assert!(!expression.matches(&connect(), true));
    }

    #[test]
    fn different_options_are_and_ed() {
        let mut expression = Expression {
            events: vec![Event::Rename],
            pids: vec![40],
            comms: vec![glob("g?t")],
            paths: vec![path("/srv/*")],
            ..Expression::default()
        };
        assert!(expression.matches(&rename(), true));
        expression.comms = vec![glob("tar")];
        assert!(!expression.matches(&rename(), true));
    }

    #[test]
    fn invert_negates_the_whole() {
        let expression = Expression {
            events: vec![Event::Rename],
            pids: vec![1],
            invert: true,
            ..Expression::default()
        };
        assert!(expression.matches(&rename(), true), "only one of two held");
        assert!(expression.matches(&connect(), true), "neither held");
        let expression = Expression {
            pids: vec![40],
            ..expression
        };
        assert!(!expression.matches(&rename(), true), "both held");
    }

    #[test]
    fn either_path_may_match() {
        for pattern in ["/srv/**", "/tmp/**", "old", "new"] {
            let expression = Expression {
                paths: vec![path("/nowhere"), path(pattern)],
                ..Expression::default()
            };
            assert!(expression.matches(&rename(), true), "{pattern}");
            assert!(!expression.matches(&connect(), true), "{pattern}");
        }
    }

    #[test]
    fn the_pid_is_the_process_not_the_thread() {
        let expression = Expression {
            pids: vec![41],
            ..Expression::default()
        };
        assert!(!expression.matches(&rename(), true));
        assert!(
            !expression.matches(&connect(), true),
            "whose process is unknown"
        );
    }

    #[test]
    fn users_executables_and_containers() {
        let expression = Expression {
            uids: vec![0, 1000],
            loginuids: vec![500],
            exes: vec![path("/usr/bin/*")],
            containers: vec!["0123".into()],
            ..Expression::default()
        };
        assert!(expression.matches(&rename(), true));
        assert!(!expression.matches(&event(Event::Rename), true), "unknown");
        for other in [
            Expression {
                uids: vec![0],
                ..expression.clone()
            },
            Expression {
                loginuids: vec![1000],
                ..expression.clone()
            },
            Expression {
                exes: vec![path("gi")],
                ..expression.clone()
            },
            Expression {
                containers: vec!["123".into()],
                ..expression.clone()
            },
        ] {
            assert!(!other.matches(&rename(), true), "{other:?}");
        }
    }

    #[test]
    fn a_span_of_time_ends_before_its_end() {
        let at = |ts| EventRecord {
            ts: Unix(ts),
            ..rename()
        };
        let expression = Expression {
            since: Some(Unix(10)),
            until: Some(Unix(20)),
            ..Expression::default()
        };
        let matches = [9, 10, 19, 20].map(|ts| expression.matches(&at(ts), true));
        assert_eq!(matches, [false, true, true, false]);
    }

    #[test]
    fn a_parent_and_a_cgroup() {
        let mut event = rename();
        event.process.ppid = Some(39);
        event.process.cgroup = Some(Bytes::from(&b"/system.slice/cron.service"[..]));
        let expression = |ppid, cgroup| Expression {
            ppids: vec![ppid],
            cgroups: vec![path(cgroup)],
            ..Expression::default()
        };
        assert!(expression(39, "cron.service").matches(&event, true));
        assert!(expression(39, "/system.slice/**").matches(&event, true));
        assert!(!expression(40, "cron.service").matches(&event, true));
        assert!(!expression(39, "ssh.service").matches(&event, true));
        assert!(
            !expression(39, "**").matches(&rename(), true),
            "nothing is known"
        );
    }

    #[test]
    fn a_process_outside_is_inside_of_the_inverse() {
        let mut expression = Expression::default();
        assert!(!expression.matches(&rename(), false));
        expression.invert = true;
        assert!(expression.matches(&rename(), false));
    }

    #[test]
    fn addresses_and_ports() {
        let expression = Expression {
            addrs: vec![
                "198.51.100.0/24".parse().unwrap(),
                "192.0.2.0/24".parse().unwrap(),
            ],
            ports: vec!["22".parse().unwrap(), "400-500".parse().unwrap()],
            ..Expression::default()
        };
        assert!(expression.matches(&connect(), true));
        for other in [
            EventRecord {
                port: Some(80),
                ..connect()
            },
            EventRecord {
                addr: Some("203.0.113.1"),
                ..connect()
            },
            EventRecord {
                addr: Some("no address"),
                ..connect()
            },
            EventRecord {
                addr: None,
                ..connect()
            },
            EventRecord {
                port: None,
                ..connect()
            },
            rename(),
        ] {
            assert!(!expression.matches(&other, true), "{other:?}");
        }
    }
}
