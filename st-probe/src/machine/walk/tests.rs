use super::*;
use crate::testing::Folder;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A folder with these directories.
fn folder(directories: &[&str]) -> Folder {
    let folder = Folder::new();
    for directory in directories {
        folder.directory(directory);
    }
    folder
}

fn has_entered<F: FnMut()>(walk: &Walk<F>, path: &Path) -> bool {
    let directory = fs::metadata(path).unwrap();
    walk.entered.contains(&(directory.dev(), directory.ino()))
}

fn names(names: &[&str]) -> Vec<CString> {
    let names = names.iter();
    names.map(|name| CString::new(*name).unwrap()).collect()
}

#[test]
fn enters_every_directory_once_and_nothing_else() {
    let directories = ["a", "a/b", "a/b/c", "a/d", "e"];
    let folder = folder(&directories);
    folder.write("a/file", "");
    folder.link("a/b/c/link", folder.path("e"));
    let visits = Cell::new(0);
    let mut walk = Walk::new(|| visits.set(visits.get() + 1));
    walk.below(&folder.path(""));
    assert_eq!(walk.directories(), 1 + directories.len() as u64);
    for directory in ["", "a", "a/b", "a/b/c", "a/d", "e"] {
        assert!(has_entered(&walk, &folder.path(directory)), "{directory}");
    }
    let above = folder.path("").ancestors().skip(1).count();
    assert_eq!(visits.get(), above + 1 + directories.len());
    // One that is below two roots is entered once.
    walk.below(&folder.path("a"));
    assert_eq!(walk.directories(), 1 + directories.len() as u64);
    assert!(walk.is_complete());
}

#[test]
fn a_root_that_is_no_directory_is_left_out() {
    let folder = folder(&["a"]);
    folder.write("file", "");
    folder.link("link", folder.path("a"));
    let mut walk = Walk::new(|| {});
    for root in ["none", "none/a", "file", "file/a", "link"] {
        walk.below(&folder.path(root));
    }
    assert_eq!((walk.directories(), walk.is_complete()), (0, true));
}

#[test]
fn file_systems_of_the_kernel_are_not_walked() {
    let visits = Cell::new(0);
    let mut walk = Walk::new(|| visits.set(visits.get() + 1));
    walk.below(Path::new("/proc"));
    assert_eq!((walk.directories(), walk.is_complete()), (0, true));
    assert_eq!(visits.get(), 2);
}

#[test]
fn a_name_that_has_vanished_makes_no_walk_incomplete() {
    let folder = folder(&["a", "b"]);
    let mut walk = Walk::new(|| {});
    let top = walk.root(&folder.path("")).unwrap().unwrap();
    folder.remove("a");
    walk.descend(top);
    assert_eq!((walk.directories(), walk.is_complete()), (2, true));
    assert!(has_entered(&walk, &folder.path("b")));
}

#[test]
fn a_directory_that_gets_another_name_meanwhile_is_entered() {
    let folder = folder(&["a", "b"]);
    let mut walk = Walk::new(|| {});
    let top = walk.root(&folder.path("")).unwrap().unwrap();
    fs::rename(folder.path("a"), folder.path("c")).unwrap();
    walk.descend(top);
    assert!(has_entered(&walk, &folder.path("c")));
    assert_eq!((walk.directories(), walk.is_complete()), (3, true));
}

#[test]
fn a_directory_is_listed_again_only_a_few_times() {
    let folder = folder(&["a"]);
    let mut walk = Walk::new(|| {});
    let mut level = walk.root(&folder.path("")).unwrap().unwrap();
    assert!(!level.list_again().unwrap());
    for _ in 1..LISTINGS {
        level.names.clear();
        level.changed = true;
        assert!(level.list_again().unwrap());
        assert_eq!(level.names, names(&["a"]));
        assert!(!level.changed);
    }
    level.changed = true;
    assert!(!level.list_again().unwrap());
}

#[test]
fn a_directory_that_is_removed_meanwhile_does_not_end_the_walk() {
    let folder = folder(&["x/child", "y/child"]);
    let visits = Cell::new(0);
    let removed = Cell::new(false);
    let mut walk = Walk::new(|| {
        visits.set(visits.get() + 1);
        // `x` and its child are open by now.
        if visits.get() == 2 {
            folder.remove("x");
            removed.set(true);
        }
    });
    let mut top = walk.root(Path::new("/")).unwrap().unwrap();
    top = Level {
        dir: Dir::open(&folder.path(""), OFlag::O_RDONLY, Mode::empty()).unwrap(),
        names: names(&["y", "x"]),
        ..top
    };
    visits.set(0);
    walk.descend(top);
    assert!(removed.get());
    assert!(has_entered(&walk, &folder.path("y")));
    assert!(has_entered(&walk, &folder.path("y/child")));
    assert!(walk.is_complete());
}

#[test]
fn a_directory_that_cannot_be_entered_makes_a_walk_incomplete() {
    for (error, complete) in [
        (Errno::ENOENT, true),
        (Errno::ENOTDIR, true),
        (Errno::ELOOP, true),
        (Errno::EACCES, false),
        (Errno::EMFILE, false),
        (Errno::EIO, false),
    ] {
        let mut walk = Walk::new(|| {});
        walk.failed(error);
        assert_eq!(walk.is_complete(), complete, "{error}");
        walk.failed(Errno::ENOENT);
        assert_eq!(walk.is_complete(), complete, "{error}");
    }
}
