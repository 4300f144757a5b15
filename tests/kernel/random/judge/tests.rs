//! Links, of which the mounts decide before anything else does.

use nix::errno::Errno;
use std::path::Path;

use super::{Kind, Outcome, Spot, Tree};
use crate::random::op::{Base, Route};
use crate::random::tree::Id;

/// A directory, another one with a file system mounted on it, and the mounted one.
fn tree() -> (Tree, [Id; 3]) {
    let mut tree = Tree::new(Path::new("/watched"), Path::new("/outside"));
    let [plain, point] = [b"plain", b"point"].map(|name| tree.add(tree.dir, name, Kind::Dir));
    let mount = tree.mount(point);
    let root = tree.mounts[mount].shows;
    (tree, [plain, point, root])
}

fn spot(tree: &Tree, dir: Id, name: &[u8]) -> Spot {
    let route = Route {
        base: Base::Root(tree.path(dir)),
        names: vec![name.to_vec()],
        mount: tree.nodes[dir].fs,
    };
    Spot {
        dir,
        name: name.to_vec(),
        route,
    }
}

/// How a link to a new name in `dir` fails, whose existing name is right in the watched
/// directory.
fn failure(tree: &mut Tree, old: &[u8], dir: Id) -> Vec<Errno> {
    let (old, new) = (spot(tree, tree.dir, old), spot(tree, dir, b"new"));
    match tree.make_link(&old, &new) {
        Some(Outcome::Fails(errors)) => errors.to_vec(),
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn the_existing_path_of_a_link_leads_into_a_mount() {
    let (mut tree, [plain, _, root]) = tree();
    assert_eq!(failure(&mut tree, b"plain", plain), [Errno::EPERM]);
    assert_eq!(failure(&mut tree, b"plain", root), [Errno::EXDEV]);
    assert_eq!(failure(&mut tree, b"point", root), [Errno::EPERM]);
    assert_eq!(failure(&mut tree, b"point", plain), [Errno::EXDEV]);
}

#[test]
fn nothing_is_linked_into_a_removed_directory() {
    let (mut tree, [plain, point, _]) = tree();
    tree.remove(plain);
    tree.add(tree.dir, b"file", Kind::File);
    assert_eq!(failure(&mut tree, b"file", plain), [Errno::ENOENT]);
    let either = [Errno::ENOENT, Errno::EXDEV];
    assert_eq!(failure(&mut tree, b"point", plain), either);
    tree.unmount(tree.nodes[point].covered.expect("it is mounted"));
    assert_eq!(failure(&mut tree, b"point", plain), [Errno::ENOENT]);
}
