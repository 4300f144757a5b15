//! Programs: the files that processes execute, and their arguments.

use super::{Notice, ProcessTable};
use crate::field::{Chain, Values};
use st_probe::record::ARGV;
use st_probe::vocabulary::Value;
use std::rc::Rc;

/// What a process executes: the program of its parent until it executes one itself.
#[derive(Debug, Default)]
pub struct Program {
    /// The number of the image.
    pub image: Option<u64>,
    /// The arguments, as far as they were recorded.
    pub argv: Option<Vec<Vec<u8>>>,
    /// Whether there were more.
    pub argv_cut: bool,
}

/// The file of an image.
#[derive(Debug)]
pub enum ImageFile {
    /// As st-probe read it from /proc.
    Path {
        /// The path.
        path: Vec<u8>,
        /// Whether that name has been removed.
        deleted: bool,
    },
    /// As the kernel recorded it.
    Chain {
        /// The device number of its file system.
        dev: u32,
        /// The names.
        chain: Chain,
        /// Whether its name has been removed.
        deleted: bool,
    },
}

impl ImageFile {
    /// The file that a record of a task hook tells of.
    pub(super) fn read(values: &Values) -> Option<Self> {
        Some(Self::Chain {
            dev: values.u32(Value::Dev)?,
            chain: values.chain()?,
            deleted: values.is_unhashed_below_root(),
        })
    }
}

impl ProcessTable {
    /// Gives a number to the image of a file.
    pub(super) fn load(&mut self, file: ImageFile) -> u64 {
        self.images += 1;
        let image = self.images;
        self.notices.push(Notice::Image { image, file });
        image
    }

    /// Notes what a process executes from now on.
    pub(super) fn set_program(&mut self, pid: i32, program: Program) {
        if let Some(process) = self.processes.get_mut(&pid) {
            let former = process.program.replace(Rc::new(program));
            self.unload(former);
        }
    }

    /// Drops one process's program; if it was the last process that had it, nobody executes its
    /// image any more.
    pub(super) fn unload(&mut self, program: Option<Rc<Program>>) {
        let program = program.and_then(Rc::into_inner);
        if let Some(image) = program.and_then(|program| program.image) {
            self.notices.push(Notice::Unload(image));
        }
    }
}

/// The arguments in a record, and whether there are more.
pub fn arguments(values: &Values) -> (Vec<Vec<u8>>, bool) {
    let count = values.number(Value::Argc).unwrap_or(0).max(0) as usize;
    let text = values.words::<ARGV>().unwrap_or([0; ARGV]);
    let mut rest = &text[..];
    let mut words = Vec::new();
    while words.len() < count && !rest.is_empty() {
        let Some(end) = rest.iter().position(|&byte| byte == 0) else {
            words.push(rest.to_vec());
            return (words, true);
        };
        words.push(rest[..end].to_vec());
        rest = &rest[end + 1..];
    }
    let cut = words.len() < count;
    (words, cut)
}
