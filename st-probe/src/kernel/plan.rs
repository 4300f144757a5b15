//! From a row of the hook table and this kernel's types to a probe definition.
//!
//! Syntax: Documentation/trace/kprobetrace.rst (Linux 6.12).

use crate::kernel::btf::{Btf, Shape};
use crate::kernel::expression::{Expression, Form, Malformed, Reason, Scope, Unresolved};
use crate::kernel::hooks::{Chain, Fetch, HookRow, Point};
use crate::stream::arch::Arch;
use crate::stream::record::ARGV;
use crate::stream::vocabulary::{Event, Series, Subject, Value};
use std::fmt;

/// The longest fetch argument that the kernel takes (kernel/trace/trace_probe.h,
/// MAX_ARGSTR_LEN).
const MAX_ARGUMENT: usize = 63;
/// How many calls of a function can be under way without one whose return is missed.
const MAX_ACTIVE: u32 = 512;
/// The same for calls that may take minutes: the most that the kernel allows
/// (kernel/trace/trace_probe.h, KRETPROBE_MAXACTIVE_MAX).
const MOST_ACTIVE: u32 = 4096;

/// From a dentry to the number of its btrfs subvolume (fs/btrfs/btrfs_inode.h, fs/btrfs/ctree.h).
/// On another file system the number means nothing.
const SUBVOLUME: &str = "->d_inode^btrfs_inode.vfs_inode->root->root_key.objectid";

/// A probe to define.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// To be tried in this order, the most names first: the kernel may refuse those with many.
    /// None for a static tracepoint, which is there already.
    pub definitions: Vec<Definition>,
}

/// One way to define a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// How many names it fetches.
    pub names: u32,
    /// How many pointers are followed to the value that is furthest away.
    pub depth: usize,
    /// The line for `kprobe_events`.
    pub line: String,
}

impl Definition {
    fn new(names: u32, line: String) -> Self {
        let depths = line.split(' ').map(|word| word.matches('(').count());
        Self {
            names,
            depth: depths.max().unwrap_or(0),
            line,
        }
    }
}

/// What a kernel lacks of what a hook needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// The function that is to be probed.
    Function(String),
    /// The static tracepoint.
    Tracepoint(String),
    /// Part of what is to be fetched.
    Value(Unresolved),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => write!(f, "this kernel has no function {name}()"),
            Self::Tracepoint(name) => write!(f, "this kernel has no tracepoint {name}"),
            Self::Value(unresolved) => unresolved.fmt(f),
        }
    }
}

/// Why there is no probe for a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The kernel lacks something.
    Lacking(Lack),
    /// An expression of the row is malformed.
    Malformed(Malformed),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacking(lack) => lack.fmt(f),
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Unresolved> for Error {
    fn from(unresolved: Unresolved) -> Self {
        Self::Lacking(Lack::Value(unresolved))
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Plans a hook as probe `group/name`.
pub fn plan(row: &HookRow, btf: &Btf, arch: Arch, group: &str) -> Result<Probe, Error> {
    let (kind, name) = match row.point {
        Point::Enter(name) => ("p".to_owned(), name),
        Point::Leave(name) => (format!("r{}", max_active(row.subject)), name),
        Point::Tracepoint(_) => return Ok(Probe::default()),
    };
    let function = btf.function(name);
    let function = function.ok_or_else(|| Error::Lacking(Lack::Function(name.to_owned())))?;
    let planner = Planner {
        scope: Scope {
            btf,
            arch,
            name,
            function,
        },
    };
    let mut line = format!("{kind}:{group}/{} {name}", row.name());
    for fetch in row.fetch {
        line += &planner.arguments(*fetch)?;
    }
    let definitions = match row.chain {
        None => vec![Definition::new(0, line)],
        Some(Chain::Dentry(dentry)) => planner.dentry_chain(dentry, line)?,
        Some(Chain::Cgroup(node)) => planner.cgroup_chain(node, line)?,
    };
    Ok(Probe { definitions })
}

/// The maxactive of a return probe.
fn max_active(subject: Subject) -> u32 {
    if subject == Subject::Event(Event::Connect) {
        MOST_ACTIVE
    } else {
        MAX_ACTIVE
    }
}

/// Writes the arguments of a probe on one function.
struct Planner<'a> {
    scope: Scope<'a>,
}

impl Planner<'_> {
    /// The arguments that fetch something, each after a space.
    fn arguments(&self, fetch: Fetch) -> Result<String, Error> {
        Ok(match fetch {
            Fetch::Stack => format!(" {}=$stack", Value::Sp),
            Fetch::Return => format!(" {}=$retval:{}", Value::Ret, self.result()),
            Fetch::Number(value, expression) => format!(" {value}={}", self.number(expression)?),
            Fetch::Words(series, expression, count) => self.words(series, expression, count)?,
            Fetch::String(value, expression) => format!(" {value}={}", self.string(expression)?),
            Fetch::Flag(value, expression) => format!(" {value}={}", self.flag(expression)?),
            Fetch::User(expression) => self.user(expression)?,
        })
    }

    /// The type of the function's result: a function that returns an `int` may leave garbage in the
    /// upper half of the register.
    fn result(&self) -> &'static str {
        match self.scope.btf.shape(self.scope.function.result) {
            Shape::Pointer(_) => "s64",
            _ => "s32",
        }
    }

    fn number(&self, text: &str) -> Result<String, Error> {
        let expression = Expression::parse(text)?;
        let operand = self.scope.resolve(&expression)?;
        match operand.form {
            Form::Number(size) => Ok(format!("{operand}:u{}", 8 * size)),
            _ => Err(self.scope.unresolved(&expression, Reason::Number).into()),
        }
    }

    fn flag(&self, text: &str) -> Result<String, Error> {
        let expression = Expression::parse(text)?;
        let operand = self.scope.resolve(&expression)?;
        match operand.form {
            Form::Number(size) => Ok(format!("{operand}:u{}", 8 * size)),
            Form::Bits { width, shift } => Ok(format!("{operand}:b{width}@{shift}/32")),
            Form::Other => Err(self.scope.unresolved(&expression, Reason::BitField).into()),
        }
    }

    fn string(&self, text: &str) -> Result<String, Error> {
        let operand = self.scope.resolve(&Expression::parse(text)?)?;
        Ok(format!("+0({operand}):string"))
    }

    fn words(&self, series: Series, array: &str, count: usize) -> Result<String, Error> {
        let mut arguments = String::new();
        for at in 0..count {
            let word = self.number(&format!("{array}[{at}]"))?;
            arguments += &format!(" {}={word}", series.nth(at));
        }
        Ok(arguments)
    }

    /// The kernel refuses an array of user memory as an argument, so each word is one.
    fn user(&self, text: &str) -> Result<String, Error> {
        let address = self.scope.resolve(&Expression::parse(text)?)?;
        let word = |at| format!(" {}=+u{}({address}):u64", Series::Word.nth(at), 8 * at);
        Ok((0..ARGV / 8).map(word).collect())
    }

    /// The definitions that fetch what `fixed` does and then the names from a dentry upwards.
    fn dentry_chain(&self, chain: &str, fixed: String) -> Result<Vec<Definition>, Error> {
        let mut line = fixed;
        // Each btrfs subvolume has inode numbers of its own. Only the types of btrfs's module tell
        // where the subvolume's number is.
        let subvolume = self.number(&format!("{chain}{SUBVOLUME}")).ok();
        if let Some(number) = &subvolume {
            let magic = self.number(&format!("{chain}->d_sb->s_magic"))?;
            let own = Series::Subvolume.nth(0);
            line += &format!(" {}={magic} {own}={number}", Value::Magic);
        }
        // The arguments that tell the inode of each level.
        let mut inodes: Vec<String> = Vec::new();
        let mut definitions = Vec::new();
        let mut dentry = chain.to_owned();
        for level in 0.. {
            let name = self.string(&format!("{dentry}->d_name.name"))?;
            let inode = self.number(&format!("{dentry}->d_inode->i_ino"))?;
            if name.len().max(inode.len()) > MAX_ARGUMENT {
                break;
            }
            line += &format!(" {}={name}", Series::Name.nth(level));
            let mut inode = format!(" {}={inode}", Series::Inode.nth(level));
            if subvolume.is_some() {
                let number = self.number(&format!("{dentry}{SUBVOLUME}"))?;
                inode += &format!(" {}={number}", Series::Subvolume.nth(level));
            }
            inodes.push(inode);
            // One more pointer leads to a subvolume's number than to a name.
            let top = level - usize::from(subvolume.is_some() && level > 1);
            let told = match level {
                0 => String::new(),
                _ if top > 1 => format!("{}{}", inodes[1], inodes[top]),
                _ => inodes[1].clone(),
            };
            definitions.push(Definition::new(level as u32 + 1, format!("{line}{told}")));
            dentry += "->d_parent";
        }
        self.most_names_first(definitions, chain)
    }

    /// The definitions that fetch what `fixed` does and then the names from a cgroup's node
    /// upwards.
    fn cgroup_chain(&self, chain: &str, fixed: String) -> Result<Vec<Definition>, Error> {
        let mut line = fixed;
        let mut definitions = Vec::new();
        let mut node = chain.to_owned();
        for level in 0.. {
            let name = self.string(&format!("{node}->name"))?;
            if name.len() > MAX_ARGUMENT {
                break;
            }
            line += &format!(" {}={name}", Series::Cgroup.nth(level));
            definitions.push(Definition::new(level as u32 + 1, line.clone()));
            // The member's name since Linux 6.15, where it is not to be read without a lock.
            let renamed = format!("{node}->__parent");
            node += "->parent";
            if self.number(&node).is_err() {
                self.number(&renamed)?;
                node = renamed;
            }
        }
        self.most_names_first(definitions, chain)
    }

    /// The definitions in the order in which they are tried. The error is that there are none: not
    /// even the chain's first name can be fetched.
    fn most_names_first(
        &self,
        mut definitions: Vec<Definition>,
        chain: &str,
    ) -> Result<Vec<Definition>, Error> {
        if definitions.is_empty() {
            let chain = Expression::parse(chain)?;
            let reason = Reason::Name(MAX_ARGUMENT);
            return Err(self.scope.unresolved(&chain, reason).into());
        }
        definitions.reverse();
        Ok(definitions)
    }
}

#[cfg(test)]
mod tests {
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
        let deepest = format!(
            " n8=+0(+40({chain})):string i1=+64(+48(+24(%si))):u64 i8=+64(+48({chain})):u64"
        );
        assert!(lines[0].1.ends_with(&deepest), "{}", lines[0].1);
    }

    #[test]
    fn a_result_is_as_wide_as_its_type() {
        let fetch = &[Fetch::Return];
        for (pointer, expected) in [(false, "s32"), (true, "s64")] {
            let lines = lines(row(Point::Leave("do_it"), fetch), &kernel(pointer)).unwrap();
            assert_eq!(
                lines[0].1,
                format!("r512:group/mkdir_return_do_it do_it ret=$retval:{expected}")
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
            let two =
                "p:group/mkdir_entry_do_it do_it c0=+0(+8(%di)):string c1=+0(+8(+0(%di))):string";
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
}
