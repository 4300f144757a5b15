//! Sockets: the far end of a connect, the near end of a listener.

use crate::field::Layout;
use st_probe::vocabulary::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const AF_INET: i64 = 2;
const AF_INET6: i64 = 10;
const SOCK_RAW: i64 = 3;

/// A socket with an address.
#[derive(Debug, Clone, Default)]
pub struct Socket {
    /// `tcp`, `udp`, ...
    pub proto: Option<String>,
    /// `inet` or `inet6`.
    pub family: Option<&'static str>,
    /// The address as text.
    pub addr: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// How many connections may wait.
    pub backlog: Option<i32>,
}

impl Socket {
    /// Adds what a record tells.
    pub fn learn(&mut self, layout: &Layout, data: &[u8]) {
        let number = |value| layout.number(data, value);
        if let Some(protocol) = number(Value::Protocol) {
            self.proto = Some(proto(protocol, number(Value::Type)));
        }
        self.backlog = number(Value::Backlog)
            .map(|backlog| backlog as i32)
            .or(self.backlog);
        // A local port, in the machine's byte order; 0 until there is one.
        self.port = number(Value::Num)
            .filter(|&port| port != 0)
            .map(|port| port as u16)
            .or(self.port);
        let addrlen = number(Value::Addrlen);
        let (family, needed, address) = match number(Value::Family) {
            Some(AF_INET) => (
                "inet",
                16,
                layout
                    .memory::<4>(data, Value::Addr4)
                    .map(|a| Ipv4Addr::from(a).into()),
            ),
            Some(AF_INET6) => (
                "inet6",
                24,
                layout.addr6(data).map(|a| Ipv6Addr::from(a).into()),
            ),
            _ => return,
        };
        self.family = Some(family);
        // A shorter address is refused by the kernel; what is behind it is not an address.
        if addrlen.is_none_or(|length| length >= needed) {
            self.addr = address.map(|address: IpAddr| address.to_string());
            if let Some(port) = layout.memory::<2>(data, Value::Port) {
                self.port = Some(u16::from_be_bytes(port));
            }
        }
    }
}

/// The usual name of a protocol: include/uapi/linux/in.h.
fn proto(protocol: i64, kind: Option<i64>) -> String {
    match protocol {
        _ if kind == Some(SOCK_RAW) => "raw",
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        262 => "mptcp",
        other => return other.to_string(),
    }
    .to_owned()
}
