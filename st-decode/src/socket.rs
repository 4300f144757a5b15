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

/// A call that is made on a socket.
#[derive(Debug, Clone, Default)]
pub struct SocketCall {
    /// The file descriptor, where a system call names one.
    pub fd: Option<i32>,
    /// The socket, if it is one of IPv4 or IPv6.
    pub socket: Option<Socket>,
    /// Whether it is a send that opens the connection.
    pub by_send: bool,
}

impl SocketCall {
    /// Takes an entry record.
    pub fn learn_entry(&mut self, values: &Values) {
        self.fd = values.i32(Value::Fd);
        // Other calls tell the socket further inside.
        if values.number(Value::IsSendmsg).is_some() {
            self.by_send = true;
            self.socket.get_or_insert_default().learn(values);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Layout;
    use st_probe::record::Field;
    use st_probe::vocabulary::Order;

    #[test]
    fn a_send_that_opens_a_connection_tells_its_address() {
        let field = |(number, name): (u16, &str)| Field {
            name: name.into(),
            offset: 4 * number,
            size: 4,
            signed: false,
            ctype: "u32".into(),
        };
        let names = ["is_sendmsg", "addrlen", "family", "port", "addr4"];
        let fields: Vec<_> = (0..).zip(names).map(field).collect();
        let numbers = [[1, 0, 0, 0], [16, 0, 0, 0], [2, 0, 0, 0], [1, 187, 0, 0]];
        let data = [&numbers.concat()[..], &[192, 0, 2, 1]].concat();
        let layout = Layout::new(Order::Little, &fields);
        let mut call = SocketCall::default();
        call.learn_entry(&layout.values(&data));
        let socket = call.socket.as_ref().unwrap();
        assert_eq!(socket.addr.as_deref(), Some("192.0.2.1"));
        assert_eq!((socket.port, call.by_send), (Some(443), true));
    }
}
