//! The hook that tells when the realtime clock was set.

use super::Point::Enter;
use super::{HookRow, service};
use crate::stream::vocabulary::Service;

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // fs/timerfd.c: kernel/time calls it after settimeofday(2), clock_settime(2), a step of
    // adjtimex(2), a leap second and a resume from suspend, to cancel timers of
    // TFD_TIMER_CANCEL_ON_SET. The clock has its new time already.
    service(Service::Clock, Enter("timerfd_clock_was_set"), &[]).optional(),
];
