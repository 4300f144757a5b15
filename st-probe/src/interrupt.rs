//! Ctrl-C for the stages after st-probe.

/// Makes the process survive its first SIGINT; a second one kills it.
///
/// A terminal's Ctrl-C reaches every process of a pipeline at once. The stages after
/// st-probe must outlive it to finish what they are still sent, so they end when their
/// input does.
#[allow(unsafe_code)]
pub fn ignore_first() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the action is fully initialised and its handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}
