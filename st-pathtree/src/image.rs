//! What processes execute, by the numbers that st-decode gave it.

use crate::event::{Bytes, Executable, InputEvent, Status};
use crate::resolve::Resolved;
use st_decode::event::{Image, Unresolved};
use st_decode::vocabulary::Event;
use st_decode::wire;
use std::collections::HashMap;

/// What is executed at the moment, or was until not long ago.
#[derive(Debug, Default)]
pub struct Images(HashMap<u64, Loaded>);

#[derive(Debug)]
struct Loaded {
    resolved: Resolved,
    /// Encoded, for all the events of the processes that execute it.
    executable: Vec<u8>,
}

impl Images {
    /// Takes an image with its path.
    pub fn load(&mut self, image: u64, resolved: Resolved) {
        let mut executable = Vec::new();
        let fields = Executable {
            exe: Bytes::from(&resolved.path[..]),
            exe_status: Some(resolved.status).filter(|status| *status != Status::Complete),
            exe_mnt_ns: resolved.mnt_ns,
        };
        wire::write(&fields, &mut executable);
        let loaded = Loaded {
            resolved,
            executable,
        };
        self.0.insert(image, loaded);
    }

    /// Forgets one.
    pub fn unload(&mut self, image: u64) {
        self.0.remove(&image);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Where the file of an image is.
    pub fn path(&self, image: u64) -> Option<&Resolved> {
        self.0.get(&image).map(|loaded| &loaded.resolved)
    }

    /// The value of an event's `process` with the executable in it, encoded.
    pub fn attribute(&self, event: &InputEvent, record: &[u8]) -> Option<Vec<u8>> {
        let loaded = self.0.get(&event.unresolved.image?)?;
        let process = wire::entries(record).find(|entry| entry.name == b"process")?;
        let mut attributed = Vec::with_capacity(process.value.len() + loaded.executable.len());
        wire::append(process.value, &loaded.executable, &mut attributed);
        Some(attributed)
    }
}

/// The path of an image, where st-probe has read that.
pub fn read(image: &Image) -> Option<Resolved> {
    Some(Resolved {
        path: image.path.as_ref()?.to_vec(),
        status: if image.deleted {
            Status::Deleted
        } else {
            Status::Complete
        },
        mount: None,
        mnt_ns: None,
        wanted: false,
    })
}

/// An image as an event on its file.
pub fn event<'a>(image: &Image<'a>) -> InputEvent<'a> {
    InputEvent {
        event: Event::Exec,
        ts: image.ts,
        dev: image.dev,
        unresolved: Unresolved {
            fs_path: image.fs_path.clone(),
            deleted: image.deleted,
            ..Unresolved::default()
        },
        ..InputEvent::default()
    }
}
