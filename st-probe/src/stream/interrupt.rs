//! The signals that end a pipeline, for the stages after st-probe.

use std::fs::File;
use std::os::fd::AsFd;

/// What a terminal, a supervisor and a terminal that hangs up send to a whole process group.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Makes the process survive its first SIGINT, its first SIGTERM and its first SIGHUP; a second
/// one of a kind kills it. A signal that is ignored, as nohup(1) has it, stays ignored.
///
/// These signals often reach every process of a pipeline at once. The stages after st-probe must
/// outlive them to finish what they are still sent, so they end when their input does. Does
/// nothing if standard input is a file, which will not end sooner for a signal.
pub fn ignore_first() {
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
    ENDING.into_iter().for_each(ignore_first_of);
}

#[allow(unsafe_code)]
fn ignore_first_of(signal: libc::c_int) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: both actions are fully initialised, and the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const action, &raw mut before);
        if before.sa_sigaction == libc::SIG_IGN {
            libc::sigaction(signal, &raw const before, std::ptr::null_mut());
        }
    }
}
