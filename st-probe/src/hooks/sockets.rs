//! What happens to sockets.

use super::Fetch::{Number, Stack};
use super::Point::Enter;
use super::{Hook, Role, entry, hook, leave};

/// AF_INET and AF_INET6, of the socket and of an address that has a family at all.
const INTERNET: &str =
    "(family == 2 || family == 10) && (sk_family == 2 || sk_family == 10) && addrlen > 1";

/// The rows.
pub const HOOKS: &[Hook] = &[
    // net/socket.c: connect(2) enters at the first, io_uring at the second; the address is
    // in kernel memory at the third.
    entry("connect", "__sys_connect", &[Stack, Number("fd", "fd")]),
    entry("connect", "__sys_connect_file", &[Stack]).optional(),
    hook(
        "connect",
        Role::Detail,
        Enter("security_socket_connect"),
        &[
            Number("addrlen", "addrlen"),
            Number("sk_family", "sock->sk->__sk_common.skc_family"),
            Number("family", "(sockaddr)address->sa_family"),
            Number("port", "(sockaddr_in)address->sin_port"),
            Number("addr4", "(sockaddr_in)address->sin_addr.s_addr"),
            Number(
                "addr6_0",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[0]",
            ),
            Number(
                "addr6_1",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[1]",
            ),
            Number(
                "addr6_2",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[2]",
            ),
            Number(
                "addr6_3",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[3]",
            ),
            Number("type", "sock->sk->sk_type"),
            Number("protocol", "sock->sk->sk_protocol"),
        ],
    )
    .filter(INTERNET),
    leave("connect", "__sys_connect_file").optional(),
    leave("connect", "__sys_connect"),
    // listen(2) enters at the first, io_uring (from 6.11 on) at the second. An unbound socket
    // gets its port between security_socket_listen() and inet_hash() (net/ipv4).
    entry("listen", "__sys_listen", &[Stack, Number("fd", "fd")]),
    entry("listen", "__sys_listen_socket", &[Stack]).optional(),
    hook(
        "listen",
        Role::Detail,
        Enter("security_socket_listen"),
        &[
            Number("backlog", "backlog"),
            Number("family", "sock->sk->__sk_common.skc_family"),
            Number("num", "sock->sk->__sk_common.skc_num"),
            Number("addr4", "sock->sk->__sk_common.skc_rcv_saddr"),
            Number(
                "addr6_0",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0]",
            ),
            Number(
                "addr6_1",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1]",
            ),
            Number(
                "addr6_2",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2]",
            ),
            Number(
                "addr6_3",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3]",
            ),
            Number("type", "sock->sk->sk_type"),
            Number("protocol", "sock->sk->sk_protocol"),
        ],
    )
    .filter("family == 2 || family == 10"),
    hook(
        "listen",
        Role::Detail,
        Enter("inet_hash"),
        &[Number("num", "sk->__sk_common.skc_num")],
    ),
    // Until 7.x, which has inet_hash() for both families.
    hook(
        "listen",
        Role::Detail,
        Enter("inet6_hash"),
        &[Number("num", "sk->__sk_common.skc_num")],
    )
    .optional(),
    leave("listen", "__sys_listen_socket").optional(),
    leave("listen", "__sys_listen"),
    // The last listener's close or shutdown; skc_num is 0 already.
    hook(
        "unlisten",
        Role::Instant,
        Enter("inet_csk_listen_stop"),
        &[
            Number("family", "sk->__sk_common.skc_family"),
            Number("port", "(inet_sock)sk->inet_sport"),
            Number("addr4", "sk->__sk_common.skc_rcv_saddr"),
            Number(
                "addr6_0",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0]",
            ),
            Number(
                "addr6_1",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1]",
            ),
            Number(
                "addr6_2",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2]",
            ),
            Number(
                "addr6_3",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3]",
            ),
            Number("type", "sk->sk_type"),
            Number("protocol", "sk->sk_protocol"),
        ],
    ),
];
