//! Hooks that tell what happens to sockets.

use super::Fetch::{Number, Stack, Words};
use super::{Condition, HookRow, detail, entry, instant, leave};
use crate::stream::vocabulary::{Event, Series, Value};

/// The socket is of IPv4 or IPv6, and so is the address, which is long enough to have a family.
const TO_INTERNET: &[Condition] = &[
    Condition::In(Value::Family, FAMILIES),
    Condition::In(Value::SkFamily, FAMILIES),
    Condition::Above(Value::Addrlen, 1),
];
/// The socket is of IPv4 or IPv6.
const OF_INTERNET: &[Condition] = &[Condition::In(Value::Family, FAMILIES)];
/// AF_INET and AF_INET6.
const FAMILIES: &[u64] = &[2, 10];

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // net/socket.c: connect(2) calls the first of these functions, io_uring the second. In the
    // third the address is in kernel memory.
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
    // net/socket.c: listen(2) calls the first of these functions, io_uring (from Linux 6.11 on)
    // the second. An unbound socket gets its port between security_socket_listen() and inet_hash()
    // (net/ipv4/inet_hashtables.c).
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
    // Before Linux 7.x; from then on inet_hash() is called for both families.
    detail(
        Event::Listen,
        "inet6_hash",
        &[Number(Value::Num, "sk->__sk_common.skc_num")],
    )
    .optional(),
    leave(Event::Listen, "__sys_listen_socket").optional(),
    leave(Event::Listen, "__sys_listen"),
    // net/ipv4/inet_connection_sock.c: the last listener is closed or shut down. skc_num is 0
    // already.
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
