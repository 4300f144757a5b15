//! Connecting: what of it is an event, with which address and result.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, socket,
};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::fs::Place;
use crate::log::Log;
use crate::patience::wait_until;
use crate::trace::{four, one};
use crate::{Case, Report, compare, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("connect/tcp", |report| each(report, "tcp", tcp)),
        Case::new("connect/udp", |report| each(report, "udp", udp)),
        Case::new("connect/other", |report| each(report, "other", other)),
        Case::new("connect/io_uring-udp", uring_udp),
        Case::new("connect/io_uring-tcp", uring_tcp),
    ]
}

/// Traces four threads that use sockets.
pub fn each(
    report: &mut Report,
    name: &str,
    work: impl Fn(&mut Log) -> Result<()> + Sync,
) -> Result<()> {
    let place = Place::new(PathBuf::from("/tmp/sockets").join(name));
    std::fs::create_dir_all(&place.dir)?;
    four(
        report,
        &place,
        arguments(),
        |_| Ok(()),
        |log| {
            for _ in 0..3 {
                work(log)?;
            }
            Ok(())
        },
    )
}

/// Socket events alone.
pub fn arguments() -> Vec<OsString> {
    ["--json", "--connect", "--listen"].map(Into::into).to_vec()
}

/// A local address, and how the kernel and systracer name it.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    /// The family of the socket.
    pub family: AddressFamily,
    /// As in the event.
    pub name: &'static str,
    /// The address.
    pub addr: &'static str,
}

/// This machine, in three ways.
pub const LOCAL: [Local; 3] = [
    Local {
        family: AddressFamily::Inet,
        name: "inet",
        addr: "127.0.0.1",
    },
    Local {
        family: AddressFamily::Inet6,
        name: "inet6",
        addr: "::1",
    },
    Local {
        family: AddressFamily::Inet6,
        name: "inet6",
        addr: "::ffff:127.0.0.1",
    },
];

/// Nothing has these addresses, and there is no route: RFC 5737, RFC 3849.
pub const UNROUTED: [Local; 2] = [
    Local {
        family: AddressFamily::Inet,
        name: "inet",
        addr: "192.0.2.1",
    },
    Local {
        family: AddressFamily::Inet6,
        name: "inet6",
        addr: "2001:db8::1",
    },
];

impl Local {
    /// A port of this address.
    pub fn port(&self, port: u16) -> Result<SockaddrStorage> {
        let address: IpAddr = self.addr.parse()?;
        Ok(SocketAddr::from((address, port)).into())
    }

    /// A socket of its family.
    pub fn socket(&self, kind: SockType, flags: SockFlag) -> nix::Result<OwnedFd> {
        socket(self.family, kind, flags | SockFlag::SOCK_CLOEXEC, None)
    }

    /// A socket bound to a port that the kernel chooses; the port.
    pub fn bound(&self, kind: SockType) -> Result<(OwnedFd, u16)> {
        let socket = self.socket(kind, SockFlag::empty())?;
        bind(socket.as_raw_fd(), &self.port(0)?)?;
        let port = port_of(&socket)?;
        Ok((socket, port))
    }

    /// The fields of an event about a socket of this address.
    pub fn fields(&self, socket: &OwnedFd, proto: &str, port: u16) -> Value {
        json!({
            "fd": socket.as_raw_fd(),
            "proto": proto,
            "family": self.name,
            "addr": self.addr,
            "port": port,
        })
    }
}

/// The port that a socket is bound to.
pub fn port_of(socket: &OwnedFd) -> Result<u16> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let port = name.as_sockaddr_in().map(|name| name.port());
    port.or_else(|| name.as_sockaddr_in6().map(|name| name.port()))
        .context("an IP socket has a port")
}

/// connect(2).
pub fn connect_to(socket: &OwnedFd, address: &SockaddrStorage) -> nix::Result<()> {
    connect(socket.as_raw_fd(), address)
}

/// A listener that is there before: its `listen` is an event of its own.
pub fn listener(log: &mut Log, local: &Local) -> Result<(OwnedFd, u16)> {
    let (listener, port) = local.bound(SockType::Stream)?;
    let ((), span) = log.run(|| sys::listen(listener.as_fd(), 8))?;
    let mut fields = local.fields(&listener, "tcp", port);
    fields["event"] = "listen".into();
    fields["backlog"] = 8.into();
    log.expect(span, fields);
    Ok((listener, port))
}

/// Closes a listener.
pub fn close(log: &mut Log, local: &Local, listener: OwnedFd, port: u16) -> Result<()> {
    let mut fields = local.fields(&listener, "tcp", port);
    fields["event"] = "unlisten".into();
    fields.as_object_mut().context("it is one")?.remove("fd");
    let ((), span) = log.run(|| {
        drop(listener);
        Ok(())
    })?;
    log.expect(span, fields);
    Ok(())
}

fn tcp(log: &mut Log) -> Result<()> {
    for local in LOCAL {
        let (server, port) = listener(log, &local)?;
        let address = local.port(port)?;

        let client = local.socket(SockType::Stream, SockFlag::empty())?;
        let fields = local.fields(&client, "tcp", port);
        log.connects(Ok(()), fields.clone(), || connect_to(&client, &address))?;
        log.connects(Err(Errno::EISCONN), fields, || {
            connect_to(&client, &address)
        })?;
        // Neither is an event.
        drop(sys::accept(server.as_fd())?);
        drop(client);

        let client = local.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        let fields = local.fields(&client, "tcp", port);
        let in_progress = Err(Errno::EINPROGRESS);
        log.connects(in_progress, fields.clone(), || {
            connect_to(&client, &address)
        })?;
        writable(&client)?;
        log.connects(Ok(()), fields, || connect_to(&client, &address))?;
        drop(sys::accept(server.as_fd())?);

        // Bound, so nobody else gets the port, but not listening.
        let (_closed, closed_port) = local.bound(SockType::Stream)?;
        let client = local.socket(SockType::Stream, SockFlag::empty())?;
        let (fields, refused) = (
            local.fields(&client, "tcp", closed_port),
            local.port(closed_port)?,
        );
        log.connects(Err(Errno::ECONNREFUSED), fields, || {
            connect_to(&client, &refused)
        })?;
        close(log, &local, server, port)?;
    }
    for remote in UNROUTED {
        let client = remote.socket(SockType::Stream, SockFlag::empty())?;
        let (fields, address) = (remote.fields(&client, "tcp", 443), remote.port(443)?);
        log.connects(Err(Errno::ENETUNREACH), fields, || {
            connect_to(&client, &address)
        })?;
    }
    Ok(())
}

/// Waits until a socket can be written to: it has connected, or failed to.
pub fn writable(socket: &OwnedFd) -> Result<()> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    wait_until(
        || "the connection does not come".to_owned(),
        || Ok(poll(&mut fds, PollTimeout::ZERO)? > 0),
    )
}

fn udp(log: &mut Log) -> Result<()> {
    for local in LOCAL {
        let (_peer, port) = local.bound(SockType::Datagram)?;
        let client = local.socket(SockType::Datagram, SockFlag::empty())?;
        // A datagram socket connects to whatever it is told, as often as it is told.
        for port in [port, 9, 65535] {
            let (fields, address) = (local.fields(&client, "udp", port), local.port(port)?);
            log.connects(Ok(()), fields, || connect_to(&client, &address))?;
        }
        log.silent("connect(AF_UNSPEC)", || sys::disconnect(client.as_fd()))?;
    }
    Ok(())
}

/// What is not IP is no event.
fn other(log: &mut Log) -> Result<()> {
    let path = log.path("socket");
    let listener = UnixListener::bind(&path)?;
    let address = UnixAddr::new(&path)?;
    for flags in [SockFlag::empty(), SockFlag::SOCK_NONBLOCK] {
        let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        log.silent("connect", || connect(client.as_raw_fd(), &address))?;
        drop(listener.accept()?);
    }
    drop(listener);
    let client = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    log.fails(&[Errno::ECONNREFUSED], "connect", || {
        connect(client.as_raw_fd(), &address)
    })?;
    std::fs::remove_file(&path)?;

    let client = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::NetlinkRoute,
    )?;
    let kernel = nix::sys::socket::NetlinkAddr::new(0, 0);
    log.silent("connect to the kernel", || {
        connect(client.as_raw_fd(), &kernel)
    })
}

/// io_uring connects a datagram socket at once.
fn uring_udp(report: &mut Report) -> Result<()> {
    let mut ring = match sys::Uring::new() {
        Ok(ring) => ring,
        Err(error) => return lacks_uring(report, error),
    };
    let place = Place::new("/tmp/sockets");
    one(report, &place, arguments(), |log, _| {
        for local in LOCAL {
            let client = local.socket(SockType::Datagram, SockFlag::empty())?;
            let address = local.port(9)?;
            let mut fields = local.fields(&client, "udp", 9);
            // No system call named a descriptor.
            fields.as_object_mut().context("it is one")?.remove("fd");
            log.connects(Ok(()), fields, || {
                match ring.connect(client.as_fd(), &address)? {
                    0 => Ok(()),
                    error => Err(Errno::from_raw(-error)),
                }
            })?;
        }
        Ok(())
    })
}

/// What a case does where io_uring cannot be had.
pub fn lacks_uring(report: &mut Report, error: Errno) -> Result<()> {
    if matches!(error, Errno::ENOSYS | Errno::EPERM) {
        report
            .notes
            .push(format!("this kernel has no io_uring: {error}"));
        return Ok(());
    }
    Err(error).context("io_uring_setup")
}

/// io_uring tries a stream socket's connect without waiting first; whether and where it
/// tries again is for each kernel to choose (5.10: in a kernel thread). Each try is an
/// event, and all are rightly told.
fn uring_tcp(report: &mut Report) -> Result<()> {
    let mut ring = match sys::Uring::new() {
        Ok(ring) => ring,
        Err(error) => return lacks_uring(report, error),
    };
    let local = LOCAL[0];
    let (server, port) = local.bound(SockType::Stream)?;
    sys::listen(server.as_fd(), 8)?;
    let (_closed, closed_port) = local.bound(SockType::Stream)?;
    let trace = crate::trace::Trace::start(arguments())?;
    let tries = [
        (port, 0, vec![0, -libc::EINPROGRESS, -libc::EISCONN]),
        (
            closed_port,
            -libc::ECONNREFUSED,
            vec![-libc::ECONNREFUSED, -libc::EINPROGRESS, -libc::ECONNABORTED],
        ),
    ];
    for (port, result, _) in &tries {
        let client = local.socket(SockType::Stream, SockFlag::empty())?;
        let got = ring.connect(client.as_fd(), &local.port(*port)?)?;
        if got != *result {
            bail!("io_uring's connect gave {got}, meant to give {result}");
        }
    }
    let got = trace.events(&mut report.problems)?;
    report.notes.push(compare::count(&got));
    for (port, _, results) in &tries {
        let rets: Vec<_> = got
            .iter()
            .filter(|event| *event.get("port") == json!(port))
            .map(|event| event.get("ret").clone())
            .collect();
        report.notes.push(format!("results {rets:?}"));
        if rets.is_empty()
            || rets
                .iter()
                .any(|ret| !results.iter().any(|&r| *ret == json!(r)))
        {
            report.problems.push(format!(
                "port {port}: expected results of {results:?}, got {rets:?}"
            ));
        }
    }
    for event in &got {
        let expected = json!({
            "event": "connect", "proto": "tcp", "family": "inet", "addr": "127.0.0.1",
        });
        for (name, value) in expected.as_object().context("it is one")? {
            if event.get(name) != value {
                report
                    .problems
                    .push(format!("{name}: expected {value}, got {}", event.get(name)));
            }
        }
        if ![port, closed_port]
            .iter()
            .any(|port| *event.get("port") == json!(port))
        {
            let fields = Value::Object(event.fields.clone());
            report.problems.push(format!("extra: {fields}"));
        }
    }
    Ok(())
}
