//! The files that processes execute: images, by the numbers that st-decode gives them.

use crate::event::{Bytes, Executable, InputEvent, Status};
use crate::resolve::Resolved;
use foldhash::HashMap;
use st_decode::event::{Image, Unresolved};
use st_decode::vocabulary::Event;
use st_decode::wire;

/// The images that a process executes, or may have executed until a moment ago.
#[derive(Debug, Default)]
pub struct Images(HashMap<u64, Loaded>);

#[derive(Debug)]
struct Loaded {
    resolved: Resolved,
    /// [`Executable`] as MessagePack: it is the same in all events of the processes that execute
    /// the image.
    executable: Vec<u8>,
}

impl Images {
    /// Adds an image with its path.
    pub fn load(&mut self, image: u64, resolved: Resolved) {
        let mut executable = Vec::new();
        let fields = Executable {
            exe: Bytes::from(&resolved.path[..]),
            exe_status: match resolved.status {
                Status::Complete => None,
                status => Some(status),
            },
            exe_mnt_ns: resolved.mnt_ns,
        };
        wire::write(&fields, &mut executable);
        let loaded = Loaded {
            resolved,
            executable,
        };
        self.0.insert(image, loaded);
    }

    /// Forgets an image that no process executes any more.
    pub fn unload(&mut self, image: u64) {
        self.0.remove(&image);
    }

    /// Forgets all images.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The path of an image.
    pub fn path(&self, image: u64) -> Option<&Resolved> {
        self.0.get(&image).map(|loaded| &loaded.resolved)
    }

    /// [`Executable`] of what an event's process executes, as MessagePack; `None` if that is not
    /// known.
    pub fn executable(&self, event: &InputEvent) -> Option<&[u8]> {
        let loaded = self.0.get(&event.unresolved.image?)?;
        Some(&loaded.executable)
    }
}

/// The path of an image, if st-probe has read it from `/proc`.
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

/// An event on the file of an image: its path is resolved as that of any other event.
pub fn event<'a>(image: &Image<'a>) -> InputEvent<'a> {
    InputEvent {
        event: Event::Exec,
        dev: image.dev,
        unresolved: Unresolved {
            at: image.at,
            fs_path: image.fs_path.clone(),
            deleted: image.deleted,
            ..Unresolved::default()
        },
        ..InputEvent::default()
    }
}
