//! TCP fast open: a send that opens the connection itself is a connect, told once.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, SockFlag, SockType, SockaddrStorage, send, sendmsg, sendto, setsockopt, sockopt,
};
use serde_json::Value;
use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::fs::Place;
use crate::log::Log;
use crate::sockets::{
    LOCAL, Local, UNROUTED, arguments, close, connect_to, each, lacks_uring, listener, writable,
};
use crate::trace::one;
use crate::{Case, Report, sys};

/// Who may open a connection with data: both the client and the server (ip-sysctl.rst).
const SETTING: &str = "/proc/sys/net/ipv4/tcp_fastopen";
const BOTH: &str = "3";
/// What is sent.
const DATA: &[u8] = b"early";
const IN_PROGRESS: i32 = -libc::EINPROGRESS;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("connect/fastopen", |report| {
            enabled(|| each(report, "fastopen", tcp))
        }),
        Case::new("connect/fastopen-io_uring", |report| {
            enabled(|| uring(report))
        }),
        Case::new("connect/fastopen-mptcp", |report| enabled(|| mptcp(report))),
    ]
}

/// Does something while clients and servers may use fast open.
fn enabled(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = fs::read_to_string(SETTING)?;
    fs::write(SETTING, BOTH)?;
    let result = work();
    fs::write(SETTING, before)?;
    result
}

/// MSG_FASTOPEN, which nix does not know, and others.
fn flags(others: MsgFlags) -> MsgFlags {
    MsgFlags::from_bits_retain(libc::MSG_FASTOPEN) | others
}

/// The fields of an event about a socket: no call has named a descriptor to connect.
fn fields(local: &Local, socket: &OwnedFd, proto: &str, port: u16) -> Result<Value> {
    let mut fields = local.fields(socket, proto, port);
    let object = fields.as_object_mut().context("it is one")?;
    object.remove("fd");
    object.insert("event".into(), "connect".into());
    object.insert("fastopen".into(), true.into());
    Ok(fields)
}

/// Sends data that opens a connection. `ret` is what opening it gives; `results` are what the send
/// may give.
fn opens(
    log: &mut Log,
    mut fields: Value,
    ret: i32,
    results: &[nix::Result<usize>],
    send: impl FnOnce() -> nix::Result<usize>,
) -> Result<()> {
    let mut got = Ok(0);
    let ((), span) = log.run(|| {
        got = send();
        Ok(())
    })?;
    ensure!(results.contains(&got), "the send gave {got:?}: {fields}");
    fields["ret"] = ret.into();
    log.expect(span, fields);
    Ok(())
}

fn by_sendto(socket: &OwnedFd, address: &SockaddrStorage, others: MsgFlags) -> nix::Result<usize> {
    sendto(socket.as_raw_fd(), DATA, address, flags(others))
}

fn by_sendmsg(socket: &OwnedFd, address: &SockaddrStorage, others: MsgFlags) -> nix::Result<usize> {
    let vector = [IoSlice::new(DATA)];
    let socket = socket.as_raw_fd();
    sendmsg(socket, &vector, &[], flags(others), Some(address))
}

fn tcp(log: &mut Log) -> Result<()> {
    let sent = [Ok(DATA.len())];
    for local in LOCAL {
        let (server, port) = listener(log, &local)?;
        sys::take_data_early(server.as_fd(), 16)?;
        let address = local.port(port)?;
        let client = |flags| local.socket(SockType::Stream, flags);

        // The first one gets the server's cookie at most, later ones send their data with it.
        for by in [by_sendto, by_sendmsg] {
            let client = client(SockFlag::empty())?;
            let fields = fields(&local, &client, "tcp", port)?;
            opens(log, fields, 0, &sent, || {
                by(&client, &address, MsgFlags::empty())
            })?;
            log.silent("send", || send(client.as_raw_fd(), DATA, MsgFlags::empty()))?;
            // The connection is there already.
            log.fails(&[Errno::EISCONN], "sendto", || {
                by(&client, &address, MsgFlags::empty())
            })?;
            drop(sys::accept(server.as_fd())?);
        }

        // Without a cookie the data is still to be sent.
        let not_waited = [Ok(DATA.len()), Err(Errno::EINPROGRESS)];
        for (flag, others) in [
            (SockFlag::SOCK_NONBLOCK, MsgFlags::empty()),
            (SockFlag::empty(), MsgFlags::MSG_DONTWAIT),
        ] {
            let client = client(flag)?;
            let fields = fields(&local, &client, "tcp", port)?;
            opens(log, fields, IN_PROGRESS, &not_waited, || {
                by_sendto(&client, &address, others)
            })?;
            writable(&client)?;
            drop(sys::accept(server.as_fd())?);
        }

        // The connect alone is told, not the send that opens the connection then.
        let client = client(SockFlag::empty())?;
        setsockopt(&client, sockopt::TcpFastOpenConnect, &true)?;
        let plain = local.fields(&client, "tcp", port);
        log.connects(Ok(()), plain, || connect_to(&client, &address))?;
        log.silent("sendto", || {
            sendto(client.as_raw_fd(), DATA, &address, MsgFlags::empty())
        })?;
        drop(sys::accept(server.as_fd())?);

        // Bound, so nobody else gets the port, but not listening.
        let (_closed, closed_port) = local.bound(SockType::Stream)?;
        let refused = local.port(closed_port)?;
        let client = local.socket(SockType::Stream, SockFlag::empty())?;
        let fields = fields(&local, &client, "tcp", closed_port)?;
        let (ret, error) = (-libc::ECONNREFUSED, [Err(Errno::ECONNREFUSED)]);
        opens(log, fields, ret, &error, || {
            by_sendmsg(&client, &refused, MsgFlags::empty())
        })?;
        close(log, &local, server, port)?;
    }
    for remote in UNROUTED {
        let client = remote.socket(SockType::Stream, SockFlag::empty())?;
        let fields = fields(&remote, &client, "tcp", 443)?;
        let address = remote.port(443)?;
        let (ret, error) = (-libc::ENETUNREACH, [Err(Errno::ENETUNREACH)]);
        opens(log, fields, ret, &error, || {
            by_sendto(&client, &address, MsgFlags::empty())
        })?;
    }
    Ok(())
}

/// io_uring does not wait in a send.
fn uring(report: &mut Report) -> Result<()> {
    let mut ring = match sys::Uring::new() {
        Ok(ring) => ring,
        Err(error) => return lacks_uring(report, error),
    };
    let place = Place::new("/tmp/sockets");
    one(report, &place, arguments(), |log, _| {
        for local in LOCAL {
            let (server, port) = listener(log, &local)?;
            let address = local.port(port)?;
            let client = local.socket(SockType::Stream, SockFlag::empty())?;
            let fields = fields(&local, &client, "tcp", port)?;
            let not_waited = [Ok(DATA.len()), Err(Errno::EINPROGRESS)];
            opens(log, fields, IN_PROGRESS, &not_waited, || {
                let result = ring.send(client.as_fd(), DATA, &address, libc::MSG_FASTOPEN)?;
                usize::try_from(result).map_err(|_| Errno::from_raw(-result))
            })?;
            writable(&client)?;
            drop(sys::accept(server.as_fd())?);
            close(log, &local, server, port)?;
        }
        Ok(())
    })
}

/// MPTCP does not wait while it opens the connection (net/mptcp/protocol.c,
/// mptcp_sendmsg_fastopen()), and waits afterwards. Not every kernel has it.
fn mptcp(report: &mut Report) -> Result<()> {
    let mut found = None;
    let place = Place::new("/tmp/sockets");
    let result = one(report, &place, arguments(), |log, _| {
        for local in [LOCAL[0], LOCAL[1]] {
            let (server, port) = listener(log, &local)?;
            let address = local.port(port)?;
            let client = match sys::mptcp_socket(local.family as i32) {
                Ok(client) => client,
                Err(error) => {
                    found = Some(format!("this kernel has no MPTCP: {error}"));
                    return close(log, &local, server, port);
                }
            };
            let mut sent = Ok(0);
            let ((), span) = log.run(|| {
                sent = by_sendto(&client, &address, MsgFlags::empty());
                Ok(())
            })?;
            match sent {
                Ok(_) => {
                    let mut fields = fields(&local, &client, "mptcp", port)?;
                    fields["ret"] = IN_PROGRESS.into();
                    log.expect(span, fields);
                    drop(sys::accept(server.as_fd())?);
                }
                // Before Linux 6.2.
                Err(Errno::EOPNOTSUPP) => found = Some("MPTCP opens nothing by a send".to_owned()),
                Err(error) => return Err(error.into()),
            }
            drop(client);
            close(log, &local, server, port)?;
        }
        Ok(())
    });
    report.notes.extend(found);
    result
}
