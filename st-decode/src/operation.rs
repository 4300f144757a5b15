//! Operations: what the records of a call tell of what it does, by kind.

use crate::event::{Attrib, Inode};
use crate::field::{Chain, Values};
use crate::linux::{
    ATTR_GID, ATTR_MODE, ATTR_UID, EINTR, RENAME_EXCHANGE, RENAME_WHITEOUT, RESTARTS, is_device,
    is_directory, is_error,
};
use crate::socket::{Socket, SocketCall};
use st_probe::vocabulary::{Event, Value};

/// What is known of an operation. Each event has its variant.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Operation {
    Create(NewFile),
    Mkdir(NewFile),
    Mknod {
        new: NewFile,
        /// The number of the new device; a pipe or a socket has none.
        rdev: Option<u32>,
    },
    Symlink {
        file: NamedFile,
        /// The content of the symbolic link.
        target: Option<Vec<u8>>,
    },
    Delete(NamedFile),
    Rmdir(NamedFile),
    Rename(Rename),
    Link(Link),
    Attrib {
        file: NamedFile,
        /// Whether the file's name had been removed before.
        deleted: bool,
        /// What is set, if any of it is told.
        set: Option<Attrib>,
        /// The mode before, if what is set is an ACL: it is told only where the mode changes.
        old_mode: Option<u32>,
    },
    Connect {
        call: SocketCall,
        /// As [`crate::event::EventRecord::ret`].
        ret: Option<i32>,
    },
    Listen(SocketCall),
    Unlisten(Socket),
    Exec,
    Exit {
        /// As of wait(2).
        wait_status: i32,
    },
}

/// The file that an operation is about.
#[derive(Debug, Clone, Default)]
pub struct NamedFile {
    /// The device number of its file system.
    pub dev: Option<u32>,
    /// Its inode number.
    pub ino: Option<u64>,
    /// Its name; rename, link: the name that it gets.
    pub path: Option<Chain>,
}

/// A file that create, mkdir or mknod make.
#[derive(Debug, Clone, Default)]
pub struct NewFile {
    /// The file. Its inode number is known once it exists.
    pub file: NamedFile,
    /// Type and permissions: those that were asked for, then those that it has.
    pub mode: Option<u32>,
}

/// A file that is renamed.
#[derive(Debug, Clone, Default)]
pub struct Rename {
    /// The file, with its new name.
    pub file: NamedFile,
    /// Its old name.
    pub old_path: Option<Chain>,
    /// Its inode, if it is a directory.
    pub dir: Option<Inode>,
    /// The inode of the directory that has the new name already, if one does.
    pub other_dir: Option<Inode>,
    /// Whether the two names are exchanged.
    pub exchange: bool,
    /// Whether a whiteout takes the old name.
    pub whiteout: bool,
    /// The address of the inode that the old name has.
    old_inode: Option<u64>,
    /// The address of the inode that the new name has; 0 if it has none.
    new_inode: Option<u64>,
}

/// A file that gets a further name.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// The file, with its new name.
    pub file: NamedFile,
    /// The name that it has.
    pub old_path: Option<Chain>,
    /// Whether that name had been removed before.
    pub deleted: bool,
    /// How many names it has: none if it was made by O_TMPFILE.
    names: Option<u32>,
    /// Type and permissions.
    mode: Option<u32>,
}

impl Operation {
    /// An operation of which nothing is known but its event. `None`: no call makes this event.
    pub fn begin(event: Event) -> Option<Self> {
        Some(match event {
            Event::Create => Self::Create(NewFile::default()),
            Event::Mkdir => Self::Mkdir(NewFile::default()),
            Event::Mknod => Self::Mknod {
                new: NewFile::default(),
                rdev: None,
            },
            Event::Symlink => Self::Symlink {
                file: NamedFile::default(),
                target: None,
            },
            Event::Delete => Self::Delete(NamedFile::default()),
            Event::Rmdir => Self::Rmdir(NamedFile::default()),
            Event::Rename => Self::Rename(Rename::default()),
            Event::Link => Self::Link(Link::default()),
            Event::Attrib => Self::Attrib {
                file: NamedFile::default(),
                deleted: false,
                set: None,
                old_mode: None,
            },
            Event::Connect => Self::Connect {
                call: SocketCall::default(),
                ret: None,
            },
            Event::Listen => Self::Listen(SocketCall::default()),
            Event::Unlisten | Event::Exec | Event::Exit | Event::Other => return None,
        })
    }

    /// The event that the operation makes.
    pub fn event(&self) -> Event {
        match self {
            Self::Create(_) => Event::Create,
            Self::Mkdir(_) => Event::Mkdir,
            Self::Mknod { .. } => Event::Mknod,
            Self::Symlink { .. } => Event::Symlink,
            Self::Delete(_) => Event::Delete,
            Self::Rmdir(_) => Event::Rmdir,
            Self::Rename(_) => Event::Rename,
            Self::Link(_) => Event::Link,
            Self::Attrib { .. } => Event::Attrib,
            Self::Connect { .. } => Event::Connect,
            Self::Listen(_) => Event::Listen,
            Self::Unlisten(_) => Event::Unlisten,
            Self::Exec => Event::Exec,
            Self::Exit { .. } => Event::Exit,
        }
    }

    /// The file that the operation is about, if it is one on a file.
    pub fn file(&self) -> Option<&NamedFile> {
        match self {
            Self::Create(new) | Self::Mkdir(new) | Self::Mknod { new, .. } => Some(&new.file),
            Self::Symlink { file, .. } | Self::Attrib { file, .. } => Some(file),
            Self::Delete(file) | Self::Rmdir(file) => Some(file),
            Self::Rename(rename) => Some(&rename.file),
            Self::Link(link) => Some(&link.file),
            Self::Connect { .. } | Self::Listen(_) | Self::Unlisten(_) => None,
            Self::Exec | Self::Exit { .. } => None,
        }
    }

    /// The number of the device that mknod makes.
    pub fn rdev(&self) -> Option<u32> {
        match self {
            Self::Mknod { rdev, .. } => *rdev,
            _ => None,
        }
    }

    /// The call on a socket, if the operation is one.
    pub fn socket_call(&mut self) -> Option<&mut SocketCall> {
        match self {
            Self::Connect { call, .. } | Self::Listen(call) => Some(call),
            _ => None,
        }
    }

    /// Whether it changes the path of a directory.
    pub fn changes_directories(&self) -> bool {
        match self {
            Self::Rename(rename) => rename.dir.or(rename.other_dir).is_some(),
            _ => self.event().changes_directories(),
        }
    }

    /// Takes an entry record.
    pub fn learn_entry(&mut self, values: &Values) {
        match self {
            Self::Create(new) | Self::Mkdir(new) => new.learn(values),
            Self::Mknod { new, rdev } => {
                new.learn(values);
                if new.mode.is_some_and(is_device) {
                    *rdev = values.u32(Value::Rdev);
                }
            }
            Self::Symlink { file, .. } | Self::Delete(file) | Self::Rmdir(file) => {
                file.learn(values);
            }
            Self::Rename(rename) => rename.learn_new_name(values),
            Self::Link(link) => link.file.learn(values),
            Self::Attrib {
                file,
                deleted,
                old_mode,
                ..
            } => {
                file.learn(values);
                *deleted = values.is_unhashed_below_root();
                *old_mode = values.u32(Value::Mode);
            }
            Self::Connect { call, .. } | Self::Listen(call) => call.learn_entry(values),
            Self::Unlisten(_) | Self::Exec | Self::Exit { .. } => {}
        }
    }

    /// Takes a record of the old name.
    pub fn learn_old_name(&mut self, values: &Values) {
        match self {
            Self::Rename(rename) => rename.learn_old_name(values),
            Self::Link(link) => {
                link.old_path = values.chain();
                link.file.ino = values.u64(Value::Ino);
                link.deleted = values.is_unhashed();
                link.names = values.u32(Value::Nlink);
            }
            _ => {}
        }
    }

    /// Takes a record of a symbolic link's content.
    pub fn learn_target(&mut self, values: &Values) {
        if let Self::Symlink { target, .. } = self {
            *target = values.text(Value::Target).map(<[u8]>::to_vec);
        }
    }

    /// Takes a record from further inside the call.
    pub fn learn_detail(&mut self, values: &Values) {
        match self {
            // chmod(2) changes the ACL of the file, too. That record tells no more than its own;
            // nor do those of the ACLs of files that a copy-up makes.
            Self::Attrib { old_mode: None, .. } if values.number(Value::Valid).is_none() => {}
            Self::Attrib { set, .. } => *set = Some(attributes(values)),
            Self::Connect { call, .. } | Self::Listen(call) => {
                call.socket.get_or_insert_default().learn(values);
            }
            _ => {}
        }
    }

    /// Takes a call that has succeeded within this one, on the layer of an overlayfs. overlayfs takes
    /// over the mode that the file has there (fs/overlayfs, ovl_copyattr()): before Linux 6.9, no
    /// other record tells which mode comes of the removal of an ACL.
    pub fn learn_layer(&mut self, layer: &Self) {
        if let (
            Self::Attrib {
                set,
                old_mode: Some(_),
                ..
            },
            Self::Attrib {
                set:
                    Some(Attrib {
                        mode: mode @ Some(_),
                        ..
                    }),
                ..
            },
        ) = (self, layer)
        {
            *set = Some(Attrib {
                mode: *mode,
                ..Attrib::default()
            });
        }
    }

    /// Takes a record of the inode that the dentry of the call gets.
    pub fn learn_inode(&mut self, values: &Values) {
        let ino = values.u64(Value::Ino);
        match self {
            Self::Create(new) | Self::Mkdir(new) | Self::Mknod { new, .. } => {
                new.file.ino = ino;
                new.mode = values.u32(Value::Mode);
            }
            Self::Symlink { file, .. } => file.ino = ino,
            Self::Link(link) => {
                link.file.ino = ino;
                link.mode = values.u32(Value::Mode);
            }
            _ => {}
        }
    }

    /// Whether the call makes an event if it succeeds, by what is known of it before its return.
    pub fn makes_event(&self) -> bool {
        match self {
            // A socket of another family. Or one call within another one of the same event: the
            // inner call makes the event.
            Self::Connect { call, .. } | Self::Listen(call) => call.socket.is_some(),
            // Only times or the size are set.
            Self::Attrib { set, .. } => set.is_some(),
            _ => true,
        }
    }

    /// The operation as its call's return value makes it. `None`: there is no event.
    pub fn returned(mut self, value: i64) -> Option<Self> {
        if !self.makes_event() {
            return None;
        }
        match &mut self {
            Self::Connect { ret, .. } if RESTARTS.contains(&value) => *ret = Some(-EINTR),
            Self::Connect { ret, .. } => *ret = Some(value as i32),
            _ if is_error(value) => return None,
            // Two names of one file: rename(2) succeeds and does nothing.
            Self::Rename(rename) if rename.old_inode == rename.new_inode => return None,
            Self::Attrib {
                set: Some(set),
                old_mode: Some(old_mode),
                ..
            } if set.mode == Some(*old_mode) => return None,
            _ => {}
        }
        Some(match self {
            // The file begins to be somewhere.
            Self::Link(link) if link.names == Some(0) => Self::Create(NewFile {
                file: link.file,
                mode: link.mode,
            }),
            other => other,
        })
    }
}

impl NamedFile {
    /// The inode of a directory that mkdir made: it is in the same subvolume as its parent.
    pub fn directory_made(&self) -> Option<Inode> {
        let parent = self.path.as_ref().and_then(|chain| chain.parent);
        Some(Inode {
            subvolume: parent.and_then(|parent| parent.subvolume),
            ino: self.ino?,
        })
    }

    fn learn(&mut self, values: &Values) {
        self.dev = values.u32(Value::Dev);
        self.path = values.chain();
        // A link's inode number is in the record of the old name, which may come first.
        self.ino = values.u64(Value::Ino).or(self.ino);
    }
}

impl NewFile {
    fn learn(&mut self, values: &Values) {
        self.file.learn(values);
        self.mode = values.u32(Value::Mode);
    }
}

impl Rename {
    fn learn_new_name(&mut self, values: &Values) {
        self.file.dev = values.u32(Value::Dev);
        self.file.path = values.chain();
        let flags = values.u32(Value::Flags).unwrap_or(0);
        self.exchange = flags & RENAME_EXCHANGE != 0;
        self.whiteout = flags & RENAME_WHITEOUT != 0;
        self.new_inode = values.u64(Value::Inode);
        // Without an inode, the kernel had nothing to read the mode and the number from.
        if self.new_inode != Some(0) {
            self.other_dir = directory(values, self.file.path.as_ref());
        }
    }

    fn learn_old_name(&mut self, values: &Values) {
        self.old_path = values.chain();
        self.file.ino = values.u64(Value::Ino);
        self.old_inode = values.u64(Value::Inode);
        self.dir = directory(values, self.old_path.as_ref());
    }
}

/// The inode that a chain leads to, if the record tells that it is a directory.
fn directory(values: &Values, chain: Option<&Chain>) -> Option<Inode> {
    match values.u32(Value::Mode) {
        Some(mode) if is_directory(mode) => chain?.own,
        _ => None,
    }
}

/// What a record of security_inode_setattr() tells to be set, or one of an ACL that has been set.
fn attributes(values: &Values) -> Attrib {
    let valid = values.number(Value::Valid).unwrap_or(ATTR_MODE);
    let set = |flag: i64, value: Value| {
        if valid & flag == 0 {
            return None;
        }
        values.u32(value)
    };
    Attrib {
        mode: set(ATTR_MODE, Value::Mode),
        uid: set(ATTR_UID, Value::Uid),
        gid: set(ATTR_GID, Value::Gid),
    }
}

#[cfg(test)]
mod tests;
