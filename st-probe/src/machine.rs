//! What is read of the machine beside tracefs: processes, mount tables, directories.

pub mod census;
pub mod mounts;
pub mod processes;
pub mod walk;
pub mod walker;
