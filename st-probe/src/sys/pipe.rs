//! How full a pipe is.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::{AsFd, AsRawFd};

/// How many bytes a pipe can hold, and how many wait in it for its reader: pipe(7). `None` of
/// what is no pipe.
pub fn filling(pipe: &impl AsFd) -> Option<(usize, usize)> {
    let pipe = pipe.as_fd();
    let size = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok()?;
    let mut queued: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int (fs/pipe.c, pipe_ioctl), and `pipe` is open.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut queued) };
    Errno::result(result).ok()?;
    Some((size as usize, queued as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, write};

    #[test]
    fn tells_what_waits() {
        let (_reader, writer) = pipe().unwrap();
        write(&writer, b"seven b").unwrap();
        let (size, queued) = filling(&writer).unwrap();
        assert!(size >= 4096);
        assert_eq!(queued, 7);
        assert_eq!(filling(&std::fs::File::open("/").unwrap()), None);
    }
}
