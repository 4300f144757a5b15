//! Names of errors.

/// By number, from 1: `include/uapi/asm-generic/errno-base.h` and `errno.h` of Linux 6.12, as
/// x86, ARM, RISC-V, s390 and most other architectures number them. The number of a `-` is not in
/// use.
const NAMES: &str = "\
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT \
    ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG \
    ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY \
    ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR \
    EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE \
    ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG \
    ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK \
    EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP \
    EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET \
    ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT \
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL \
    EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED \
    EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";

/// `include/linux/errno.h` of Linux 6.12: what functions of the kernel return to each other when
/// a signal interrupts a call, before the call returns EINTR or is restarted.
const RESTARTS: [(u32, &str); 4] = [
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (516, "ERESTART_RESTARTBLOCK"),
];

/// The name of an errno(3), a positive number.
pub fn name(errno: u32) -> Option<&'static str> {
    if let Some((_, name)) = RESTARTS.iter().find(|(number, _)| *number == errno) {
        return Some(name);
    }
    let index = usize::try_from(errno.checked_sub(1)?).ok()?;
    match NAMES.split_ascii_whitespace().nth(index)? {
        "-" => None,
        name => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_all_along_the_table() {
        for (number, expected) in [
            (1, "EPERM"),
            (11, "EAGAIN"),
            (22, "EINVAL"),
            (35, "EDEADLK"),
            (40, "ELOOP"),
            (42, "ENOMSG"),
            (57, "EBADSLT"),
            (59, "EBFONT"),
            (84, "EILSEQ"),
            (95, "EOPNOTSUPP"),
            (101, "ENETUNREACH"),
            (110, "ETIMEDOUT"),
            (111, "ECONNREFUSED"),
            (115, "EINPROGRESS"),
            (125, "ECANCELED"),
            (133, "EHWPOISON"),
            (512, "ERESTARTSYS"),
        ] {
            assert_eq!(name(number), Some(expected));
        }
    }

    #[test]
    fn numbers_without_a_name() {
        for number in [0, 41, 58, 134, 515, u32::MAX] {
            assert_eq!(name(number), None);
        }
    }
}
