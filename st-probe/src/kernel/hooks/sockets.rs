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
/// The same, and a send is to open the connection: `sock->state` is SS_UNCONNECTED
/// (include/uapi/linux/net.h). After a connect(2) with TCP_FASTOPEN_CONNECT, which has been told,
/// it is SS_CONNECTING.
const BY_SEND: &[Condition] = &[
    Condition::In(Value::IsSendmsg, &[1]),
    Condition::In(Value::State, &[1]),
    Condition::In(Value::Family, FAMILIES),
    Condition::In(Value::SkFamily, FAMILIES),
    Condition::Above(Value::Addrlen, 1),
];
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
    // net/ipv4/af_inet.c: a send with MSG_FASTOPEN opens the connection itself, by
    // tcp_sendmsg_fastopen() (net/ipv4/tcp.c). connect(2) comes here, too.
    entry(
        Event::Connect,
        "__inet_stream_connect",
        &[
            Stack,
            Number(Value::IsSendmsg, "is_sendmsg"),
            Number(Value::State, "sock->state"),
            Number(Value::Addrlen, "addr_len"),
            Number(Value::SkFamily, "sock->sk->__sk_common.skc_family"),
            Number(Value::Family, "(sockaddr)uaddr->sa_family"),
            Number(Value::Port, "(sockaddr_in)uaddr->sin_port"),
            Number(Value::Addr4, "(sockaddr_in)uaddr->sin_addr.s_addr"),
            Words(
                Series::Addr6,
                "(sockaddr_in6)uaddr->sin6_addr.in6_u.u6_addr32",
                4,
            ),
            Number(Value::Type, "sock->sk->sk_type"),
            Number(Value::Protocol, "sock->sk->sk_protocol"),
        ],
    )
    .filter(BY_SEND)
    .optional(),
    leave(Event::Connect, "__inet_stream_connect").optional(),
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
