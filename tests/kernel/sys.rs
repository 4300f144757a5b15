//! System calls that have no safe wrapper.

use nix::errno::Errno;
use nix::sys::socket::SockaddrLike;
use nix::unistd::ForkResult;
use nix::{NixPath, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// creat(2) itself, where the architecture has it.
pub fn creat(path: &Path, mode: libc::mode_t) -> Result<OwnedFd> {
    // SAFETY: the path is NUL-terminated and outlives the call; the descriptor is new.
    let fd = path.with_nix_path(|path| unsafe { libc::creat(path.as_ptr(), mode) })?;
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// listen(2) with any backlog: nix's refuses those that the kernel would limit.
pub fn listen(socket: BorrowedFd, backlog: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// Lets a TCP socket ask for its connection again and again, for hours: TCP_SYNCNT in tcp(7), of
/// which 127 is the most that the kernel takes (net/ipv4/tcp.c, MAX_TCP_SYNCNT).
pub fn ask_for_hours(socket: BorrowedFd) -> Result<()> {
    let count: libc::c_int = 127;
    // SAFETY: the count is valid for the given length.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            (&raw const count).cast(),
            size_of_val(&count) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Lets a listening socket take data with a connection request: TCP_FASTOPEN in tcp(7). So many
/// such requests may wait.
pub fn take_data_early(socket: BorrowedFd, count: i32) -> Result<()> {
    // SAFETY: the count is valid for the given length.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const count).cast(),
            size_of_val(&count) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// socket(2) with the protocol IPPROTO_MPTCP, which nix does not know.
pub fn mptcp_socket(family: libc::c_int) -> Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed; the descriptor is new.
    let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_MPTCP) };
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// accept(2): nix's returns a bare number.
pub fn accept(socket: BorrowedFd) -> Result<OwnedFd> {
    // SAFETY: no memory is passed; the descriptor is new.
    let fd = unsafe { libc::accept(socket.as_raw_fd(), ptr::null_mut(), ptr::null_mut()) };
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// setxattr(2).
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let (value, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: path and name are NUL-terminated, the value has this length, and all outlive the call.
    let result = path.with_nix_path(|path| unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value, length, 0)
    })?;
    Errno::result(result).map(drop)
}

/// removexattr(2).
pub fn remove_xattr(path: &Path, name: &str) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: path and name are NUL-terminated and outlive the call.
    let result =
        path.with_nix_path(|path| unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })?;
    Errno::result(result).map(drop)
}

/// setpriority(2): lets whatever else wants to run go before the calling thread, and before those
/// that it starts.
pub fn give_way() -> Result<()> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) }).map(drop)
}

/// connect(2) with the address family AF_UNSPEC: dissolves an association.
pub fn disconnect(socket: BorrowedFd) -> Result<()> {
    let address = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is valid for the given length.
    Errno::result(unsafe { libc::connect(socket.as_raw_fd(), &address, length) }).map(drop)
}

/// Gives the thread a working directory of its own: unshare(2).
pub fn unshare_working_directory() -> Result<()> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::unshare(libc::CLONE_FS) }).map(drop)
}

/// fsopen(2), fsconfig(2), fsmount(2): mounts a new file system of this type, nowhere yet.
pub fn new_mount(kind: &CStr) -> Result<OwnedFd> {
    let none = ptr::null::<libc::c_void>();
    // SAFETY: the type is NUL-terminated and outlives the call; the descriptor is new.
    let context = unsafe {
        let fd = libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC);
        OwnedFd::from_raw_fd(Errno::result(fd)? as i32)
    };
    let (fd, create) = (context.as_raw_fd(), libc::FSCONFIG_CMD_CREATE);
    // SAFETY: this command takes neither a key nor a value.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, fd, create, none, none, 0) })?;
    // SAFETY: no memory is passed; the descriptor is new.
    unsafe {
        let fd = libc::syscall(libc::SYS_fsmount, fd, libc::FSMOUNT_CLOEXEC, 0);
        Ok(OwnedFd::from_raw_fd(Errno::result(fd)? as i32))
    }
}

/// open_tree(2): copies the mount that shows a path, and those below it, to nowhere yet.
pub fn clone_tree(path: &Path) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
    let (call, dir) = (libc::SYS_open_tree, libc::AT_FDCWD);
    // SAFETY: the path is NUL-terminated and outlives the call; the descriptor is new.
    let fd =
        path.with_nix_path(|path| unsafe { libc::syscall(call, dir, path.as_ptr(), flags) })?;
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// move_mount(2): gives what was mounted nowhere yet its place.
pub fn attach(mount: &impl AsRawFd, at: &Path) -> Result<()> {
    let (call, dir, fd) = (libc::SYS_move_mount, libc::AT_FDCWD, mount.as_raw_fd());
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    let result = at.with_nix_path(|at| unsafe {
        libc::syscall(call, fd, c"".as_ptr(), dir, at.as_ptr(), flags)
    })?;
    Errno::result(result).map(drop)
}

/// include/uapi/linux/io_uring.h: struct io_sqring_offsets, io_cqring_offsets. Only the
/// last three words differ, and of those only `array` (`cqes`) is used here.
#[repr(C)]
#[derive(Default)]
struct RingOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    /// `flags` of submissions, `overflow` of completions.
    word4: u32,
    /// `dropped` of submissions, `cqes` of completions.
    word5: u32,
    /// `array` of submissions, `flags` of completions.
    word6: u32,
    reserved: u32,
    user_addr: u64,
}

/// struct io_uring_params.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq_off: RingOffsets,
    cq_off: RingOffsets,
}

/// struct io_uring_sqe, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// struct io_uring_cqe.
#[repr(C)]
struct Completion {
    _user_data: u64,
    res: i32,
    _flags: u32,
}

const IORING_OFF_SQ_RING: i64 = 0;
const IORING_OFF_CQ_RING: i64 = 0x800_0000;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_OP_SENDMSG: u8 = 9;
const IORING_OP_CONNECT: u8 = 16;

/// Memory shared with the kernel; unmapped when dropped.
struct Mapping(NonNull<libc::c_void>, usize);

impl Mapping {
    fn new(ring: &OwnedFd, length: usize, offset: i64) -> Result<Self> {
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                ring.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(address) {
            Some(address) if address.as_ptr() != libc::MAP_FAILED => Ok(Self(address, length)),
            _ => Err(Errno::last()),
        }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.1, "beyond the ring");
        self.0.as_ptr().cast::<u8>().wrapping_add(offset).cast()
    }

    fn atomic(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: within the mapping (checked), aligned by the kernel, valid as long as self.
        unsafe { AtomicU32::from_ptr(self.at(offset as usize)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference into it outlives self.
        unsafe { libc::munmap(self.0.as_ptr(), self.1) };
    }
}

/// An io_uring(7) with room for a few requests.
pub struct Uring {
    ring: OwnedFd,
    submissions: Mapping,
    completions: Mapping,
    entries: Mapping,
    params: Params,
}

impl Uring {
    /// Makes one. Fails with ENOSYS or EPERM where the system does not let it.
    pub fn new() -> Result<Self> {
        let mut params = Params::default();
        // SAFETY: Params has struct io_uring_params' layout; the descriptor is new.
        let ring = unsafe {
            let fd = libc::syscall(libc::SYS_io_uring_setup, 4, &raw mut params);
            OwnedFd::from_raw_fd(Errno::result(fd)? as i32)
        };
        let submissions = params.sq_off.word6 + params.sq_entries * 4;
        let completions =
            params.cq_off.word5 as usize + params.cq_entries as usize * size_of::<Completion>();
        Ok(Self {
            submissions: Mapping::new(&ring, submissions as usize, IORING_OFF_SQ_RING)?,
            completions: Mapping::new(&ring, completions, IORING_OFF_CQ_RING)?,
            entries: Mapping::new(
                &ring,
                params.sq_entries as usize * size_of::<Submission>(),
                IORING_OFF_SQES,
            )?,
            ring,
            params,
        })
    }

    /// Connects a socket, waits for the completion, and returns its result.
    pub fn connect(&mut self, socket: BorrowedFd, address: &dyn SockaddrLike) -> Result<i32> {
        // SAFETY: the kernel copies the address on submission.
        unsafe {
            self.submit(Submission {
                opcode: IORING_OP_CONNECT,
                fd: socket.as_raw_fd(),
                off: address.len().into(),
                addr: address.as_ptr() as u64,
                ..Submission::default()
            })
        }
    }

    /// Sends to an address as sendmsg(2) does, waits for the completion, and returns its result.
    pub fn send(
        &mut self,
        socket: BorrowedFd,
        data: &[u8],
        address: &dyn SockaddrLike,
        flags: libc::c_int,
    ) -> Result<i32> {
        let mut vector = libc::iovec {
            iov_base: data.as_ptr().cast_mut().cast(),
            iov_len: data.len(),
        };
        // SAFETY: all zero is an empty message.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
        // SAFETY: the message and what it points to outlive the call, which waits until the kernel
        // is done with them.
        unsafe {
            self.submit(Submission {
                opcode: IORING_OP_SENDMSG,
                fd: socket.as_raw_fd(),
                addr: (&raw const message) as u64,
                len: 1,
                op_flags: flags as u32,
                ..Submission::default()
            })
        }
    }

    /// Hands a request to the kernel, waits for the completion, and returns its result.
    ///
    /// # Safety
    ///
    /// What the request points to must be valid until it is complete.
    unsafe fn submit(&mut self, entry: Submission) -> Result<i32> {
        let (sq, cq) = (&self.params.sq_off, &self.params.cq_off);
        let tail = self.submissions.atomic(sq.tail);
        let index = tail.load(Ordering::Relaxed) & (self.params.sq_entries - 1);
        // SAFETY: the index is below sq_entries; the kernel reads it only once `tail` moves.
        unsafe {
            self.entries
                .at::<Submission>(index as usize * size_of::<Submission>())
                .write(entry);
        }
        self.submissions
            .atomic(sq.word6 + index * 4)
            .store(index, Ordering::Relaxed);
        tail.fetch_add(1, Ordering::Release);

        // SAFETY: the caller sees to what the request points to; no signal mask is passed.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.ring.as_raw_fd(),
                1,
                1,
                IORING_ENTER_GETEVENTS,
                ptr::null::<libc::sigset_t>(),
                0,
            )
        })?;
        let head = self.completions.atomic(cq.head);
        if head.load(Ordering::Relaxed) == self.completions.atomic(cq.tail).load(Ordering::Acquire)
        {
            return Err(Errno::EAGAIN);
        }
        let index = head.load(Ordering::Relaxed) & (self.params.cq_entries - 1);
        let offset = cq.word5 as usize + index as usize * size_of::<Completion>();
        // SAFETY: the kernel wrote it before it moved `tail`, read with Acquire.
        let result = unsafe { (*self.completions.at::<Completion>(offset)).res };
        head.fetch_add(1, Ordering::Release);
        Ok(result)
    }
}

/// fork(2). Only for programs with one thread.
pub fn fork() -> Result<ForkResult> {
    // SAFETY: no other thread may hold a lock that the child would wait for.
    unsafe { nix::unistd::fork() }
}

/// clone3(2) with CLONE_INTO_CGROUP: like [`fork`], but the child begins in a cgroup.
pub fn fork_into_cgroup(cgroup: &impl AsRawFd) -> Result<ForkResult> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // struct clone_args of include/uapi/linux/sched.h.
    let mut arguments = [0u64; 11];
    arguments[0] = CLONE_INTO_CGROUP;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: the arguments are valid for their length; the child goes on on a copy of the
    // stack, as with fork(2).
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            size_of_val(&arguments),
        )
    };
    Ok(match Errno::result(pid)? {
        0 => ForkResult::Child,
        pid => ForkResult::Parent {
            child: nix::unistd::Pid::from_raw(pid as i32),
        },
    })
}

/// setresuid(2) as the system call: it changes the calling thread alone.
pub fn become_user_alone(user: u32) -> Result<()> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) }).map(drop)
}
