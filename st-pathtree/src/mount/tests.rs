use super::*;

const TABLE: &str = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 8:2 / /w/m rw - xfs /dev/sdb rw
4 1 8:1 /w/a /alias\\040x rw - ext4 /dev/sda1 rw
5 3 0:9 / /w/m/t rw shared:3 - tmpfs none rw
6 1 8:3 /@home /home rw - btrfs /dev/sdc rw,subvol=/@home
";

fn paths(table: &str, device: &str, path: &str) -> Vec<String> {
    let mounts = MountTable::parse(table.as_bytes());
    let visible = mounts
        .paths(device, path.as_bytes())
        .filter(|mounted| mounted.visible);
    visible
        .map(|mounted| String::from_utf8(mounted.path).unwrap())
        .collect()
}

fn rename<'a>(from: &'a [u8], to: &'a [u8]) -> DirRename<'a> {
    let to = Some(to);
    DirRename { from, to }
}

#[test]
fn joins_mount_point_and_path() {
    assert_eq!(paths(TABLE, "8:1", "/x"), ["/x"]);
    assert_eq!(paths(TABLE, "8:1", "/"), ["/"]);
    assert_eq!(paths(TABLE, "8:2", "/"), ["/w/m"]);
    assert_eq!(paths(TABLE, "8:2", "/x/y"), ["/w/m/x/y"]);
    assert_eq!(paths(TABLE, "0:9", "/x"), ["/w/m/t/x"]);
    assert_eq!(paths(TABLE, "8:3", "/@home/u"), ["/home/u"]);
    assert_eq!(paths(TABLE, "8:3", "/@homes/u"), [""; 0]);
    assert_eq!(paths(TABLE, "9:9", "/x"), [""; 0]);
}

#[test]
fn gives_every_alias_the_first_mounted_first() {
    assert_eq!(paths(TABLE, "8:1", "/w/a/f"), ["/w/a/f", "/alias x/f"]);
}

#[test]
fn a_covered_path_does_not_lead_there() {
    assert_eq!(paths(TABLE, "8:1", "/w/m/f"), [""; 0]);
    assert_eq!(paths(TABLE, "8:2", "/t/f"), [""; 0]);
    let stacked = "1 0 8:1 / / rw - x x rw\n2 1 8:2 / /m rw - x x rw\n3 2 8:3 / /m rw - x x rw\n";
    assert_eq!(paths(stacked, "8:2", "/f"), [""; 0]);
    assert_eq!(paths(stacked, "8:3", "/f"), ["/m/f"]);
    let buried = "1 0 8:1 / / rw - x x rw\n2 1 8:2 / /a/b rw - x x rw\n3 1 8:3 / /a rw - x x rw\n";
    assert_eq!(paths(buried, "8:2", "/f"), [""; 0]);
    assert_eq!(paths(buried, "8:3", "/b/f"), ["/a/b/f"]);
}

#[test]
fn finds_the_devices_below() {
    let mounts = MountTable::parse(TABLE.as_bytes());
    let devices = |path: &str| {
        let mut devices: Vec<_> = mounts
            .devices_below(path.as_bytes())
            .map(|d| String::from_utf8(d.to_vec()).unwrap())
            .collect();
        devices.sort();
        devices.join(" ")
    };
    assert_eq!(devices("/w"), "0:9 8:1 8:2");
    assert_eq!(devices("/w/m"), "0:9 8:2");
    assert_eq!(devices("/home/u"), "8:3");
    assert_eq!(devices("/"), "0:5 0:9 8:1 8:2 8:3");
}

#[test]
fn mounts_move_with_the_directories_that_they_are_on() {
    let mut mounts = MountTable::parse(TABLE.as_bytes());
    let paths = |mounts: &MountTable, device: &str, path: &str| {
        let visible = mounts
            .paths(device, path.as_bytes())
            .filter(|mounted| mounted.visible);
        let paths = visible.map(|mounted| String::from_utf8(mounted.path).unwrap());
        paths.collect::<Vec<_>>()
    };
    assert!(!mounts.renamed("8:1", &[rename(b"/x", b"/y")]));
    assert!(mounts.renamed("8:1", &[rename(b"/w", b"/v/u")]));
    assert_eq!(paths(&mounts, "8:2", "/x"), ["/v/u/m/x"]);
    assert_eq!(paths(&mounts, "0:9", "/x"), ["/v/u/m/t/x"]);
    assert_eq!(
        paths(&mounts, "8:1", "/v/u/a/f"),
        ["/v/u/a/f", "/alias x/f"]
    );
    // Exchanged.
    let exchange = [rename(b"/v", b"/alias x"), rename(b"/alias x", b"/v")];
    assert!(mounts.renamed("8:1", &exchange));
    assert_eq!(paths(&mounts, "0:9", "/x"), ["/alias x/u/m/t/x"]);
    assert_eq!(
        paths(&mounts, "8:1", "/alias x/u/a/f"),
        ["/alias x/u/a/f", "/v/f"]
    );
    // The new path is not known.
    let lost = DirRename {
        from: b"/alias x",
        to: None,
    };
    assert!(mounts.renamed("8:1", &[lost]));
    assert_eq!(paths(&mounts, "0:9", "/x"), [""; 0]);
    // The mount on this path shows a directory that is not known.
    assert_eq!(paths(&mounts, "8:1", "/v/f"), [""; 0]);
    assert_eq!(paths(&mounts, "8:1", "/y/f"), ["/y/f"]);
}

#[test]
fn a_table_that_is_no_tree_is_survived() {
    let table =
        "1 2 8:1 / /a rw\n2 1 8:1 / /b rw\n3 3 8:1 / /c rw\n\nnonsense\n4\n5 1 8:1 / \\999 rw\n";
    let _ = paths(table, "8:1", "/x");
}
