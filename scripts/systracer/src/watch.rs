//! The watches of the command line: `--watch EVENTS=PATH`.

use st_pathtree::watch::{Events, Watch};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A watch whose path is absolute and, as far as it exists, free of symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// `EVENTS=PATH`, for st-pathtree.
    pub value: OsString,
    /// The path.
    pub path: PathBuf,
    events: Events,
}

impl Watched {
    /// Parses `EVENTS=PATH`, with a path that may be relative. The error says what to write
    /// instead.
    pub fn parse(value: &OsStr) -> Result<Self, String> {
        Self::parse_in(value, || {
            std::env::current_dir().map_err(|error| format!("no current directory: {error}"))
        })
    }

    /// [`Watched::parse`], with the current directory.
    fn parse_in(
        value: &OsStr,
        current: impl FnOnce() -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        let bytes = value.as_bytes();
        let mut resolved = value.to_owned();
        if let Some(equals) = bytes.iter().position(|&byte| byte == b'=') {
            let (events, path) = bytes.split_at(equals + 1);
            let path = Path::new(OsStr::from_bytes(path));
            // st-pathtree says what is wrong with an empty one.
            if !path.as_os_str().is_empty() {
                let path = if path.is_absolute() {
                    resolve(path)
                } else {
                    resolve(&current()?.join(path))
                };
                resolved = OsStr::from_bytes(events).to_owned();
                resolved.push(path);
            }
        }
        let watch = Watch::parse(resolved.as_bytes())?;
        Ok(Self {
            value: resolved,
            path: PathBuf::from(OsStr::from_bytes(&watch.path)),
            events: watch.events,
        })
    }

    /// Whether there is an event that it wants: `none` wants none.
    pub fn wants_events(&self) -> bool {
        self.events != Events::default()
    }
}

/// Follows the symbolic links of an absolute path, in what exists of it: path_resolution(7).
/// Below what does not exist, `..` takes a name away.
fn resolve(path: &Path) -> PathBuf {
    let mut real = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                real.push(name);
                if let Ok(followed) = real.canonicalize() {
                    real = followed;
                }
            }
            Component::ParentDir => drop(real.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::fs;
    use std::os::unix::fs::symlink;

    impl Folder {
        fn dir(&self, path: impl AsRef<Path>) {
            fs::create_dir_all(self.0.join(path)).unwrap();
        }

        /// What becomes of `path` in the folder, where that is below it.
        fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
            let real = resolve(&self.0.join(path));
            real.strip_prefix(&self.0).unwrap_or(&real).to_owned()
        }
    }

    #[test]
    fn dots_and_slashes_go() {
        let folder = Folder::new();
        folder.dir("a/b");
        for path in ["a/b", "a//b/", "./a/./b/.", "a/b/../b", "a/../a/b"] {
            assert_eq!(folder.resolve(path), Path::new("a/b"), "{path}");
        }
        assert_eq!(resolve(Path::new("/")), Path::new("/"));
        assert_eq!(resolve(Path::new("/../..")), Path::new("/"));
    }

    #[test]
    fn symbolic_links_are_followed() {
        let folder = Folder::new();
        folder.dir("a/b/c");
        symlink("a/b", folder.0.join("link")).unwrap();
        symlink(folder.0.join("link"), folder.0.join("twice")).unwrap();
        for (path, expected) in [
            ("link", "a/b"),
            ("twice/c", "a/b/c"),
            // The parent of what the link leads to, not of the link.
            ("link/..", "a"),
            ("twice/../b/c", "a/b/c"),
            ("link/new/deep", "a/b/new/deep"),
        ] {
            assert_eq!(folder.resolve(path), Path::new(expected), "{path}");
        }
        symlink("/", folder.0.join("root")).unwrap();
        assert_eq!(folder.resolve("root/../new"), Path::new("/new"));
    }

    #[test]
    fn what_is_missing_stays() {
        let folder = Folder::new();
        folder.dir("a");
        symlink("nowhere", folder.0.join("dangling")).unwrap();
        symlink("circle", folder.0.join("circle")).unwrap();
        symlink("a", folder.0.join("link")).unwrap();
        fs::write(folder.0.join("file"), "").unwrap();
        for (path, expected) in [
            ("a/new/newer/", "a/new/newer"),
            ("new/../a/b", "a/b"),
            ("new/../link/b", "a/b"),
            ("new/../../..", "/"),
            ("dangling/x", "dangling/x"),
            ("circle", "circle"),
            ("file/x", "file/x"),
        ] {
            let resolved = folder.resolve(path);
            if expected == "/" {
                let above = folder.0.parent().and_then(Path::parent).unwrap();
                assert_eq!(resolved, above, "{path}");
            } else {
                assert_eq!(resolved, Path::new(expected), "{path}");
            }
        }
    }

    #[test]
    fn a_path_need_not_be_text() {
        let folder = Folder::new();
        let name = OsStr::from_bytes(b"\xff=\n");
        folder.dir(name);
        symlink(name, folder.0.join("link")).unwrap();
        assert_eq!(folder.resolve("link"), Path::new(name));
        let mut value = OsString::from("create=");
        value.push(folder.0.join("link"));
        let watched = Watched::parse(&value).unwrap();
        assert_eq!(watched.path, folder.0.join(name));
        let mut expected = OsString::from("create=");
        expected.push(folder.0.join(name));
        assert_eq!(watched.value, expected);
    }

    #[test]
    fn a_relative_path_is_below_the_current_directory() {
        let folder = Folder::new();
        folder.dir("a");
        let parse = |value: &str| {
            let value = OsStr::new(value);
            Watched::parse_in(value, || Ok(folder.0.join("a"))).unwrap()
        };
        assert_eq!(parse("all=x").path, folder.0.join("a/x"));
        assert_eq!(parse("all=.").path, folder.0.join("a"));
        assert_eq!(parse("all=../b").path, folder.0.join("b"));
        let gone = || Err("gone".to_owned());
        assert!(Watched::parse_in(OsStr::new("all=x"), gone).is_err());
        assert!(Watched::parse_in(OsStr::new("all=/x"), gone).is_ok());
    }

    #[test]
    fn none_wants_nothing() {
        let wants = |value| Watched::parse(OsStr::new(value)).unwrap().wants_events();
        assert!(wants("all=/") && wants("create=/"));
        assert!(!wants("none=/"));
    }
}
