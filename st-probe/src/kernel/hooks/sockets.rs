//! What happens to sockets.

use super::Fetch::{Number, Stack, Words};
use super::{Condition, HookRow, detail, entry, instant, leave};
use crate::stream::vocabulary::{Event, Series, Value};

/// AF_INET and AF_INET6, of the socket and of an address that has a family at all.
const TO_INTERNET: &[Condition] = &[
    Condition::In(Value::Family, FAMILIES),
    Condition::In(Value::SkFamily, FAMILIES),
    Condition::Above(Value::Addrlen, 1),
];
const OF_INTERNET: &[Condition] = &[Condition::In(Value::Family, FAMILIES)];
const FAMILIES: &[u64] = &[2, 10];

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // net/socket.c: connect(2) enters at the first, io_uring at the second; the address is
    // in kernel memory at the third.
    entry(
        Event::Connect,
        "__sys_connect",
        &[Stack, Number(Value::Fd, "fd")],
    ),
    entry(Event::Connect, "__sys_connect_file", &[Stack]).optional(),
    detail(
        Event::Connect,
        "security_socket_connect",
        &[
            Number(Value::Addrlen, "addrlen"),
            Number(Value::SkFamily, "sock->sk->__sk_common.skc_family"),
            Number(Value::Family, "(sockaddr)address->sa_family"),
            Number(Value::Port, "(sockaddr_in)address->sin_port"),
            Number(Value::Addr4, "(sockaddr_in)address->sin_addr.s_addr"),
            Words(
                Series::Addr6,
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32",
                4,
            ),
            Number(Value::Type, "sock->sk->sk_type"),
            Number(Value::Protocol, "sock->sk->sk_protocol"),
        ],
    )
    .filter(TO_INTERNET),
    leave(Event::Connect, "__sys_connect_file").optional(),
    leave(Event::Connect, "__sys_connect"),
    // listen(2) enters at the first, io_uring (from 6.11 on) at the second. An unbound socket
    // gets its port between security_socket_listen() and inet_hash() (net/ipv4).
    entry(
        Event::Listen,
        "__sys_listen",
        &[Stack, Number(Value::Fd, "fd")],
    ),
    entry(Event::Listen, "__sys_listen_socket", &[Stack]).optional(),
    detail(
        Event::Listen,
        "security_socket_listen",
        &[
            Number(Value::Backlog, "backlog"),
            Number(Value::Family, "sock->sk->__sk_common.skc_family"),
            Number(Value::Num, "sock->sk->__sk_common.skc_num"),
            Number(Value::Addr4, "sock->sk->__sk_common.skc_rcv_saddr"),
            Words(
                Series::Addr6,
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32",
                4,
            ),
            Number(Value::Type, "sock->sk->sk_type"),
            Number(Value::Protocol, "sock->sk->sk_protocol"),
        ],
    )
    .filter(OF_INTERNET),
    detail(
        Event::Listen,
        "inet_hash",
        &[Number(Value::Num, "sk->__sk_common.skc_num")],
    ),
    // Until 7.x, which has inet_hash() for both families.
    detail(
        Event::Listen,
        "inet6_hash",
        &[Number(Value::Num, "sk->__sk_common.skc_num")],
    )
    .optional(),
    leave(Event::Listen, "__sys_listen_socket").optional(),
    leave(Event::Listen, "__sys_listen"),
    // The last listener's close or shutdown; skc_num is 0 already.
    instant(
        Event::Unlisten,
        "inet_csk_listen_stop",
        &[
            Number(Value::Family, "sk->__sk_common.skc_family"),
            Number(Value::Port, "(inet_sock)sk->inet_sport"),
            Number(Value::Addr4, "sk->__sk_common.skc_rcv_saddr"),
            Words(
                Series::Addr6,
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32",
                4,
            ),
            Number(Value::Type, "sk->sk_type"),
            Number(Value::Protocol, "sk->sk_protocol"),
        ],
    ),
];
