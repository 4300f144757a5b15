//! Sockets: the remote address of a connect, the local one of a listening socket.

use crate::field::Values;
use crate::linux::{
    AF_INET, AF_INET6, SIN6_LEN_RFC2133, SOCK_RAW, SOCKADDR_IN_LENGTH, protocol_name,
};
use st_probe::vocabulary::Value;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A socket with an address.
#[derive(Debug, Clone, Default)]
pub struct Socket {
    /// `tcp`, `udp`, ..., or the number of another protocol.
    pub proto: Option<Cow<'static, str>>,
    /// `inet` or `inet6`.
    pub family: Option<&'static str>,
    /// The address as text.
    pub addr: Option<String>,
    /// The port of the address.
    pub port: Option<u16>,
    /// How many connections may wait.
    pub backlog: Option<i32>,
}

impl Socket {
    /// Takes what a record tells of the socket; what it does not tell stays as it is.
    pub fn learn(&mut self, values: &Values) {
        if let Some(protocol) = values.number(Value::Protocol) {
            self.proto = Some(proto(protocol, values.number(Value::Type)));
        }
        if let Some(backlog) = values.i32(Value::Backlog) {
            self.backlog = Some(backlog);
        }
        match values.number(Value::Num) {
            // The socket is not bound yet.
            Some(0) | None => {}
            Some(port) => self.port = Some(port as u16),
        }
        match values.number(Value::Family) {
            Some(AF_INET) => {
                self.family = Some("inet");
                let address = values.memory(Value::Addr4).map(Ipv4Addr::from);
                self.set_address(values, address.map(IpAddr::V4), SOCKADDR_IN_LENGTH);
            }
            Some(AF_INET6) => {
                self.family = Some("inet6");
                let address = values.addr6().map(Ipv6Addr::from);
                self.set_address(values, address.map(IpAddr::V6), SIN6_LEN_RFC2133);
            }
            _ => {}
        }
    }

    /// Sets address and port, unless the caller's address is shorter than `least` bytes: the
    /// kernel refuses such an address, and what was fetched is beyond its end.
    fn set_address(&mut self, values: &Values, address: Option<IpAddr>, least: i64) {
        if values
            .number(Value::Addrlen)
            .is_some_and(|length| length < least)
        {
            return;
        }
        self.addr = address.map(|address| address.to_string());
        if let Some(port) = values.memory(Value::Port) {
            self.port = Some(u16::from_be_bytes(port));
        }
    }
}

/// What a protocol is called: `raw` for raw sockets, whose protocol is that of the packets.
fn proto(protocol: i64, kind: Option<i64>) -> Cow<'static, str> {
    if kind == Some(SOCK_RAW) {
        return "raw".into();
    }
    match protocol_name(protocol) {
        Some(name) => name.into(),
        None => protocol.to_string().into(),
    }
}
