//! What all stages share: the architectures, the vocabulary, the records, their framing, the loop that every
//! later stage runs, and what it gives up before that.

pub mod arch;
mod confine;
mod interrupt;
pub mod record;
pub mod stage;
pub mod time;
pub mod vocabulary;
pub mod wire;
