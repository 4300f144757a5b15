use super::*;
use crate::kernel::btf::testing::Builder;
use crate::stream::vocabulary::Role;

/// A kernel with one function: do_it(int mode, struct dentry *dentry, void *address).
fn kernel(pointer_result: bool) -> Btf {
    let mut btf = Builder::new();
    let int = btf.int("int", 4);
    let byte = btf.int("char", 1);
    let text = btf.pointer(byte);
    let name = btf.structure("qstr", 16, &[("hash_len", 0, text), ("name", 8, text)]);
    let number = btf.int("long", 8);
    let inode = btf.structure("inode", 80, &[("i_ino", 64, number)]);
    let inode = btf.pointer(inode);
    let members = [
        ("d_parent", 24, 9),
        ("d_name", 32, name),
        ("d_inode", 48, inode),
    ];
    let dentry = btf.structure("dentry", 64, &members);
    let pointer = btf.pointer(dentry);
    assert_eq!(pointer, 9);
    let words = btf.array(int, 4);
    let address = btf.structure("address", 20, &[("family", 0, int), ("words", 4, words)]);
    let address = btf.pointer(address);
    let result = if pointer_result { pointer } else { int };
    btf.function(
        "do_it",
        result,
        &[("mode", int), ("dentry", pointer), ("address", address)],
    );
    Btf::parse(btf.build()).unwrap()
}

fn row(point: Point, fetch: &'static [Fetch]) -> HookRow {
    HookRow {
        subject: Subject::Event(Event::Mkdir),
        role: Role::Entry,
        point,
        fetch,
        chain: None,
        conditions: &[],
        optional: false,
        superseded_by: None,
        module: None,
    }
}

fn lines(row: HookRow, btf: &Btf) -> Result<Vec<(u32, String)>, String> {
    let probe = plan(&row, btf, Arch::of("x86_64").unwrap(), "group");
    let definitions = probe.map_err(|error| error.to_string())?.definitions;
    let lines = definitions.into_iter();
    Ok(lines
        .map(|definition| (definition.names, definition.line))
        .collect())
}

#[test]
fn fetches_by_name() {
    let fetch = &[
        Fetch::Stack,
        Fetch::Number(Value::Mode, "mode"),
        Fetch::Number(Value::Num, "(address)dentry->words[2]"),
        Fetch::String(Value::Comm, "dentry->d_parent->d_name.name"),
    ];
    let lines = lines(row(Point::Enter("do_it"), fetch), &kernel(false)).unwrap();
    let expected = "p:group/mkdir_entry_do_it do_it sp=$stack mode=%di:u32 num=+12(%si):u32 comm=+0(+40(+24(%si))):string";
    assert_eq!(lines, [(0, expected.to_owned())]);
}

#[test]
fn what_may_be_absent_is_left_out() {
    let fetch = &[
        Fetch::Optional(Value::Mode, "mode"),
        Fetch::Optional(Value::Num, "dentry->d_sb"),
        Fetch::Variable(Value::Session, "counter"),
        Fetch::Stack,
    ];
    let lines = lines(row(Point::Enter("do_it"), fetch), &kernel(false)).unwrap();
    let expected = ["session=@counter:u32 sp=$stack", "sp=$stack"].map(|end| {
        (
            0,
            format!("p:group/mkdir_entry_do_it do_it mode=%di:u32 {end}"),
        )
    });
    assert_eq!(lines, expected);
    let malformed = Box::leak(Box::new([Fetch::Optional(Value::Mode, "mode->")]));
    assert!(self::lines(row(Point::Enter("do_it"), malformed), &kernel(false)).is_err());
}

#[test]
fn asks_for_the_deepest_chain_first() {
    let row = HookRow {
        chain: Some(Chain::Dentry("dentry")),
        ..row(Point::Enter("do_it"), &[])
    };
    let lines = lines(row, &kernel(false)).unwrap();
    assert_eq!(lines.first().unwrap().0, 9);
    assert_eq!(
        lines.last().unwrap().1,
        "p:group/mkdir_entry_do_it do_it n0=+0(+40(%si)):string"
    );
    let chain = "+24(+24(+24(+24(+24(+24(+24(+24(%si))))))))";
    let deepest =
        format!(" n8=+0(+40({chain})):string i1=+64(+48(+24(%si))):u64 i8=+64(+48({chain})):u64");
    assert!(lines[0].1.ends_with(&deepest), "{}", lines[0].1);
}

#[test]
fn a_result_is_as_wide_as_its_type() {
    let fetch = &[Fetch::Return];
    for (pointer, expected) in [(false, "s32"), (true, "s64")] {
        let lines = lines(row(Point::Leave("do_it"), fetch), &kernel(pointer)).unwrap();
        assert_eq!(
            lines[0].1,
            format!("r512:group/mkdir_entry_do_it do_it ret=%ax:{expected}")
        );
    }
}

#[test]
fn says_what_the_kernel_lacks() {
    let btf = kernel(false);
    for (expression, lacking) in [
        ("inode", "parameter inode"),
        ("dentry->d_sb", "d_sb"),
        ("mode->d_name", "pointer before ->d_name"),
        ("(sock)dentry->x", "struct sock"),
    ] {
        let fetch = Box::leak(Box::new([Fetch::Number(Value::Num, expression)]));
        let error = lines(row(Point::Enter("do_it"), fetch), &btf).unwrap_err();
        assert_eq!(
            error,
            format!("'{expression}' of do_it(): this kernel has no {lacking}")
        );
    }
    assert_eq!(
        lines(row(Point::Enter("gone"), &[]), &btf).unwrap_err(),
        "this kernel has no function gone()"
    );
}

#[test]
fn a_function_may_be_in_a_module() {
    let fetch = &[Fetch::Stack, Fetch::Return];
    for (function, symbol) in [("do_it", "do_it"), ("ovl_do_it", "overlay:ovl_do_it")] {
        let row = HookRow {
            module: Some("overlay"),
            ..row(Point::Leave(function), fetch)
        };
        let lines = lines(row, &kernel(false)).unwrap();
        let line = format!("r512:group/mkdir_entry_{function} {symbol} sp=$stack ret=%ax:s32");
        assert_eq!(lines, [(0, line)]);
    }
    let row = HookRow {
        module: Some("overlay"),
        ..row(
            Point::Enter("ovl_do_it"),
            &[Fetch::Number(Value::Mode, "mode")],
        )
    };
    let error = lines(row, &kernel(false)).unwrap_err();
    assert_eq!(
        error,
        "'mode' of ovl_do_it(): this kernel has no parameter mode"
    );
}

#[test]
fn a_value_must_be_of_the_kind_that_is_fetched() {
    let btf = kernel(false);
    for (fetch, told) in [
        (
            Fetch::Number(Value::Num, "address->words"),
            "'address->words' of do_it() is no number",
        ),
        (
            Fetch::Flag(Value::Num, "address->words"),
            "'address->words' of do_it() is no bit field",
        ),
    ] {
        let fetch = Box::leak(Box::new([fetch]));
        let error = lines(row(Point::Enter("do_it"), fetch), &btf).unwrap_err();
        assert_eq!(error, told);
    }
}

#[test]
fn a_chain_without_a_name_is_none() {
    let row = HookRow {
        chain: Some(Chain::Dentry(
            "dentry->d_parent->d_parent->d_parent->d_parent->d_parent->d_parent->d_parent->d_parent->d_parent",
        )),
        ..row(Point::Enter("do_it"), &[])
    };
    let error = lines(row, &kernel(false)).unwrap_err();
    let told = "its name takes more than the 63 characters of an argument";
    assert!(error.ends_with(told), "{error}");
}

#[test]
fn a_flag_is_a_bit_field_or_a_number() {
    for (width, expected) in [(0, "+4(%di):u32"), (1, "+4(%di):b1@1/32")] {
        let mut btf = Builder::new();
        let int = btf.int("int", 4);
        let at = if width == 0 { 32 } else { 33 };
        let signal = btf.bit_fields("signal", 8, &[("flag", at, width, int)]);
        let signal = btf.pointer(signal);
        btf.function("do_it", int, &[("signal", signal)]);
        let btf = Btf::parse(btf.build()).unwrap();
        let fetch = &[Fetch::Flag(Value::Subreaper, "signal->flag")];
        let lines = lines(row(Point::Enter("do_it"), fetch), &btf).unwrap();
        let expected = format!("p:group/mkdir_entry_do_it do_it subreaper={expected}");
        assert_eq!(lines, [(0, expected)]);
    }
}

#[test]
fn a_cgroup_chain_follows_the_parent_by_either_name() {
    for parent in ["parent", "__parent"] {
        let mut btf = Builder::new();
        let byte = btf.int("char", 1);
        let text = btf.pointer(byte);
        let node = btf.structure("kernfs_node", 16, &[(parent, 0, 4), ("name", 8, text)]);
        let pointer = btf.pointer(node);
        assert_eq!(pointer, 4);
        btf.function("do_it", byte, &[("node", pointer)]);
        let btf = Btf::parse(btf.build()).unwrap();
        let row = HookRow {
            chain: Some(Chain::Cgroup("node")),
            ..row(Point::Enter("do_it"), &[])
        };
        let lines = lines(row, &btf).unwrap();
        let two = "p:group/mkdir_entry_do_it do_it c0=+0(+8(%di)):string c1=+0(+8(+0(%di))):string";
        assert_eq!(lines[lines.len() - 2], (2, two.to_owned()));
    }
}
#[test]
fn a_chain_has_the_subvolumes_where_btrfs_is_in_use() {
    let mut btf = Builder::new();
    let long = btf.int("long", 8);
    let text = btf.pointer(long);
    let name = btf.structure("qstr", 16, &[("name", 8, text)]);
    let inode = btf.structure("inode", 80, &[("i_ino", 64, long)]);
    let inode_pointer = btf.pointer(inode);
    let super_block = btf.structure("super_block", 104, &[("s_magic", 96, long)]);
    let super_block = btf.pointer(super_block);
    let key = btf.structure("btrfs_key", 16, &[("objectid", 0, long)]);
    let root = btf.structure("btrfs_root", 64, &[("root_key", 32, key)]);
    let root = btf.pointer(root);
    let members = [("root", 0, root), ("vfs_inode", 200, inode)];
    btf.structure("btrfs_inode", 280, &members);
    let members = [
        ("d_parent", 24, 13),
        ("d_name", 32, name),
        ("d_inode", 48, inode_pointer),
        ("d_sb", 104, super_block),
    ];
    let dentry = btf.structure("dentry", 112, &members);
    let dentry = btf.pointer(dentry);
    assert_eq!(dentry, 13);
    btf.function("do_it", long, &[("dentry", dentry)]);
    let btf = Btf::parse(btf.build()).unwrap();
    let row = HookRow {
        chain: Some(Chain::Dentry("dentry")),
        ..row(Point::Enter("do_it"), &[])
    };
    let lines = lines(row, &btf).unwrap();
    let own = |dentry: &str| format!("+32(-200(+48({dentry}))):u64");
    let ino = |dentry: &str| format!("+64(+48({dentry})):u64");
    let name = |dentry: &str| format!("+0(+40({dentry})):string");
    let parents = ["%di", "+24(%di)", "+24(+24(%di))", "+24(+24(+24(%di)))"];
    let [first, second, third, fourth] = parents;
    let mut expected = format!(
        "p:group/mkdir_entry_do_it do_it magic=+96(+104(%di)):u64 s0={} n0={}",
        own(first),
        name(first)
    );
    let shortest: Vec<_> = lines.iter().rev().take(4).collect();
    assert_eq!(*shortest[0], (1, expected.clone()));
    expected += &format!(" n1={}", name(second));
    let parent = format!(" i1={} s1={}", ino(second), own(second));
    assert_eq!(*shortest[1], (2, format!("{expected}{parent}")));
    expected += &format!(" n2={}", name(third));
    assert_eq!(*shortest[2], (3, format!("{expected}{parent}")));
    expected += &format!(" n3={}", name(fourth));
    let top = format!(" i2={} s2={}", ino(third), own(third));
    assert_eq!(*shortest[3], (4, format!("{expected}{parent}{top}")));
}
