//! Ctrl-C for the stages after st-probe.

use std::fs::File;
use std::os::fd::AsFd;

/// Makes the process survive its first SIGINT; a second one kills it.
///
/// A terminal's Ctrl-C reaches every process of a pipeline at once. The stages after
/// st-probe must outlive it to finish what they are still sent, so they end when their
/// input does. Does nothing if standard input is a file, which will not end sooner for it.
#[allow(unsafe_code)]
pub fn ignore_first() {
    extern "C" fn nothing(_: libc::c_int) {}
    let input = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from);
    if input
        .and_then(|input| input.metadata())
        .is_ok_and(|input| input.is_file())
    {
        return;
    }
    // SAFETY: the action is fully initialised and its handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}
