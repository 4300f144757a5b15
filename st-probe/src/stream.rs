//! What all stages share: the architectures, the vocabulary, the records, their framing and
//! compression, the loop that every later stage runs, what it gives up before that, and the
//! command lines of the programs.

pub mod arch;
#[cfg(feature = "args")]
pub mod args;
pub mod compressed;
mod confine;
mod input;
mod interrupt;
pub mod record;
pub mod stage;
pub mod time;
pub mod vocabulary;
pub mod wire;
