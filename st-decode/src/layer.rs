//! Calls that a file system makes on others to carry out a call on itself: overlayfs on its layers.
//!
//! They return first, and what they are part of is told first: so they are kept until that has
//! returned.

use crate::pair::Call;
use st_probe::time::{Monotonic, Unix};

/// The most successes that are kept within one call. A directory with many whiteouts takes as
/// many calls on the upper layer to be removed.
const MAX_KEPT: usize = 1024;

/// A call that has succeeded.
#[derive(Debug)]
pub struct Success {
    /// The call.
    pub call: Call,
    /// When it had succeeded.
    pub ts: Monotonic,
    /// The same, by the realtime clock as it was set then.
    pub time: Unix,
    /// The CPU on which it had.
    pub cpu: u32,
    /// Whether what it did to directories was told when it had succeeded, ahead of its event.
    pub is_ahead: bool,
}

impl Success {
    /// A copy, without the successes within it.
    pub fn without_layers(&self) -> Self {
        let Call {
            began,
            sp,
            dentry,
            ref operation,
            ..
        } = self.call;
        Self {
            call: Call {
                began,
                sp,
                dentry,
                operation: operation.clone(),
                layers: Layers::default(),
            },
            ..*self
        }
    }

    /// How many successes it is, those within it included.
    pub fn count(&self) -> usize {
        1 + self.call.layers.count
    }
}

/// The successes within a call, in their order.
#[derive(Debug, Default)]
pub struct Layers {
    kept: Vec<Success>,
    /// How many there are, those within them included.
    count: usize,
}

impl Layers {
    /// Keeps one more. Returns those that are not to be kept any more, since there are too many.
    pub fn keep(&mut self, success: Success) -> Vec<Success> {
        let too_many = if self.count + success.count() > MAX_KEPT {
            self.take()
        } else {
            Vec::new()
        };
        self.count += success.count();
        self.kept.push(success);
        too_many
    }

    /// Removes all.
    pub fn take(&mut self) -> Vec<Success> {
        std::mem::take(self).kept
    }

    /// Those directly within the call.
    pub fn iter(&self) -> impl Iterator<Item = &Success> {
        self.kept.iter()
    }
}
