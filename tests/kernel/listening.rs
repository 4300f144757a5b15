//! Listening: which port, how often, and when it ends.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrStorage, bind, setsockopt, shutdown,
    sockopt,
};
use serde_json::json;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use crate::log::Log;
use crate::sockets::{LOCAL, Local, close, each, port_of};
use crate::{Case, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("listen/bound", |report| each(report, "bound", bound)),
        Case::new("listen/unbound", |report| each(report, "unbound", unbound)),
        Case::new("listen/twice", |report| each(report, "twice", twice)),
        Case::new("listen/ends", |report| each(report, "ends", ends)),
        Case::new("listen/fails", |report| each(report, "fails", fails)),
    ]
}

/// Any address of this machine.
const ANY: [Local; 2] = [
    Local {
        family: AddressFamily::Inet,
        name: "inet",
        addr: "0.0.0.0",
    },
    Local {
        family: AddressFamily::Inet6,
        name: "inet6",
        addr: "::",
    },
];

/// listen(2), and its event. The port is asked of the kernel.
fn listen(log: &mut Log, local: &Local, socket: &OwnedFd, backlog: i32) -> Result<u16> {
    let ((), span) = log.run(|| sys::listen(socket.as_fd(), backlog))?;
    let port = port_of(socket)?;
    // __sys_listen() compares as unsigned.
    let most: i32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?
        .trim()
        .parse()?;
    let limited = if (0..=most).contains(&backlog) {
        backlog
    } else {
        most
    };
    let mut fields = local.fields(socket, "tcp", port);
    fields["event"] = "listen".into();
    fields["backlog"] = json!(limited);
    log.expect(span, fields);
    Ok(port)
}

fn bound(log: &mut Log) -> Result<()> {
    for local in LOCAL.iter().chain(&ANY) {
        for backlog in [0, 5, 1_000_000, -1] {
            let (socket, _) = local.bound(SockType::Stream)?;
            let port = listen(log, local, &socket, backlog)?;
            close(log, local, socket, port)?;
        }
    }
    Ok(())
}

/// The kernel chooses the port.
fn unbound(log: &mut Log) -> Result<()> {
    for local in &ANY {
        let socket = local.socket(SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
        let port = listen(log, local, &socket, 16)?;
        anyhow::ensure!(port != 0, "the kernel chose no port");
        close(log, local, socket, port)?;
    }
    Ok(())
}

/// The second call changes the backlog.
fn twice(log: &mut Log) -> Result<()> {
    for local in LOCAL {
        let (socket, _) = local.bound(SockType::Stream)?;
        listen(log, &local, &socket, 1)?;
        let port = listen(log, &local, &socket, 2)?;
        close(log, &local, socket, port)?;
    }
    for local in &ANY {
        let socket = local.socket(SockType::Stream, SockFlag::empty())?;
        listen(log, local, &socket, 3)?;
        let port = listen(log, local, &socket, 4)?;
        close(log, local, socket, port)?;
    }
    Ok(())
}

fn ends(log: &mut Log) -> Result<()> {
    for local in LOCAL {
        // The last descriptor's close, not the first one's.
        let (socket, _) = local.bound(SockType::Stream)?;
        let port = listen(log, &local, &socket, 1)?;
        let other = socket.try_clone()?;
        drop(socket);
        close(log, &local, other, port)?;

        // shutdown(2) ends it; the close is then nothing.
        let (socket, _) = local.bound(SockType::Stream)?;
        let port = listen(log, &local, &socket, 1)?;
        let mut fields = local.fields(&socket, "tcp", port);
        fields["event"] = "unlisten".into();
        fields.as_object_mut().context("it is one")?.remove("fd");
        let ((), span) = log.run(|| shutdown(socket.as_raw_fd(), Shutdown::Both))?;
        log.expect(span, fields.clone());
        drop(socket);

        // As does connect(2) to AF_UNSPEC, which is no event of its own. Then it can listen
        // again.
        let (socket, _) = local.bound(SockType::Stream)?;
        let port = listen(log, &local, &socket, 1)?;
        let ((), span) = log.run(|| sys::disconnect(socket.as_fd()))?;
        fields["port"] = port.into();
        log.expect(span, fields);
        // Its address and port may have gone with the association.
        drop(socket);
    }
    Ok(())
}

fn fails(log: &mut Log) -> Result<()> {
    for local in LOCAL {
        let datagram = local.bound(SockType::Datagram)?.0;
        log.fails(&[Errno::EOPNOTSUPP], "listen", || {
            sys::listen(datagram.as_fd(), 1)
        })?;

        // Two sockets of one port, of which one may listen.
        let sockets = [
            local.socket(SockType::Stream, SockFlag::empty())?,
            local.socket(SockType::Stream, SockFlag::empty())?,
        ];
        let mut address: SockaddrStorage = local.port(0)?;
        for socket in &sockets {
            setsockopt(socket, sockopt::ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &address)?;
            address = local.port(port_of(socket)?)?;
        }
        let [first, second] = sockets;
        let port = listen(log, &local, &first, 1)?;
        log.fails(&[Errno::EADDRINUSE], "listen", || {
            sys::listen(second.as_fd(), 1)
        })?;
        drop(second);
        close(log, &local, first, port)?;
    }
    // What is not IP is no event.
    let path = log.path("listener");
    drop(UnixListener::bind(&path)?);
    std::fs::remove_file(&path)?;
    Ok(())
}
