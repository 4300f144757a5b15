//! What is read of the machine beside tracefs: processes, mount tables, directories, clocks.

pub mod census;
pub mod clock;
pub mod mounts;
pub mod processes;
pub mod walk;
pub mod walker;
