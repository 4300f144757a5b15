//! What a later stage reads, as long as somebody reads what it writes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Standard input. Reading fails with [`io::ErrorKind::BrokenPipe`] as soon as nobody reads
/// standard output any more: without input there is nothing to be written, and so no write would
/// tell.
pub struct Input {
    from: File,
    to: OwnedFd,
}

impl Input {
    /// Standard input, and standard output.
    pub fn standard() -> io::Result<Self> {
        Ok(Self {
            from: io::stdin().as_fd().try_clone_to_owned()?.into(),
            to: io::stdout().as_fd().try_clone_to_owned()?,
        })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if is_reader_gone(self.from.as_fd(), self.to.as_fd())? {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.from.read(buffer)
    }
}

/// Waits until there is something to be read of `from`, its end included, or nobody reads `to` any
/// more; returns whether that is so. For a regular file there is no waiting: it always has something
/// to be read, and a reader.
#[allow(unsafe_code)]
fn is_reader_gone(from: BorrowedFd, to: BorrowedFd) -> io::Result<bool> {
    let poll = |fd: BorrowedFd, events| libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // Errors are told unasked: poll(2).
    let mut fds = [poll(from, libc::POLLIN), poll(to, 0)];
    loop {
        // Not poll(2), which not every architecture has, and not a function of the C library,
        // which may use either: a stage keeps only the system calls that it is known to make.
        // SAFETY: the descriptors are valid for the given length; no time and no mask is given.
        let told = unsafe {
            libc::syscall(
                libc::SYS_ppoll,
                fds.as_mut_ptr(),
                fds.len() as libc::nfds_t,
                std::ptr::null::<libc::timespec>(),
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        if told >= 0 {
            return Ok(fds[1].revents & (libc::POLLERR | libc::POLLHUP) != 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use nix::unistd::pipe;
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    fn input(from: impl Into<OwnedFd>, to: impl Into<OwnedFd>) -> Input {
        let from: OwnedFd = from.into();
        Input {
            from: from.into(),
            to: to.into(),
        }
    }

    fn read(input: &mut Input) -> Result<Vec<u8>, io::ErrorKind> {
        let mut buffer = [0; 16];
        let count = input.read(&mut buffer).map_err(|error| error.kind())?;
        Ok(buffer[..count].to_vec())
    }

    #[test]
    fn reads_as_long_as_there_is_a_reader() {
        let (from, feed) = pipe().unwrap();
        let mut feed = File::from(feed);
        let (reader, to) = pipe().unwrap();
        let mut input = input(from, to);
        feed.write_all(b"some").unwrap();
        assert_eq!(read(&mut input).unwrap(), b"some");
        feed.write_all(b"more").unwrap();
        drop(reader);
        assert_eq!(read(&mut input), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn the_end_of_the_input_ends_the_wait() {
        let (from, feed) = pipe().unwrap();
        let (_reader, to) = pipe().unwrap();
        drop(feed);
        assert_eq!(read(&mut input(from, to)).unwrap(), b"");
    }

    #[test]
    fn the_reader_goes_while_there_is_no_input() {
        let (from, _feed) = pipe().unwrap();
        let (reader, to) = pipe().unwrap();
        let mut input = input(from, to);
        let waiting = std::thread::spawn(move || read(&mut input));
        drop(reader);
        assert_eq!(waiting.join().unwrap(), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_socket_has_a_reader_until_it_is_closed() {
        let (from, mut feed) = UnixStream::pair().unwrap();
        let (reader, to) = UnixStream::pair().unwrap();
        let mut input = input(from, to);
        feed.write_all(b"some").unwrap();
        // It has nothing to say, and goes on reading.
        reader.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&mut input).unwrap(), b"some");
        drop(reader);
        assert_eq!(read(&mut input), Err(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn files_and_devices_do_not_wait() {
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .unwrap()
        };
        assert_eq!(read(&mut input(null(), null())).unwrap(), b"");
        let this = File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(
            read(&mut input(this, null()))
                .unwrap()
                .starts_with(b"\x7fELF")
        );
    }
}
