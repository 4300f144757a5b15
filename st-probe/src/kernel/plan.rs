//! From a row of the hook table and this kernel's types to a probe definition.
//!
//! Syntax: Documentation/trace/kprobetrace.rst (Linux 6.12).

use crate::kernel::btf::{Btf, Function, Shape};
use crate::kernel::hooks::{Fetch, Hook, Point};
use crate::stream::arch::Arch;
use crate::stream::record::ARGV;
use crate::stream::vocabulary::{Event, Series, Subject, Value};

/// The longest fetch argument that the kernel takes (kernel/trace/trace_probe.h,
/// MAX_ARGSTR_LEN).
const MAX_ARGUMENT: usize = 63;
/// Calls whose returns can be waited for at once, per function.
const MAX_ACTIVE: u32 = 512;
/// The most that the kernel allows (kernel/trace/trace_probe.h, KRETPROBE_MAXACTIVE_MAX):
/// for calls that may take minutes.
const MOST_ACTIVE: u32 = 4096;

/// From a dentry to the number of the btrfs subvolume that it is in (fs/btrfs/btrfs_inode.h,
/// fs/btrfs/ctree.h); nonsense on any other file system.
const SUBVOLUME: &str = "->d_inode^btrfs_inode.vfs_inode->root->root_key.objectid";

/// A probe to define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Lines for `kprobe_events`, to be tried in this order, each with the number of names
    /// in its chain. The kernel may refuse the deepest chains.
    pub definitions: Vec<(u32, String)>,
}

/// Plans a hook as probe `group/name`. The error says what the kernel lacks.
pub fn plan(hook: &Hook, btf: &Btf, arch: Arch, group: &str) -> Result<Probe, String> {
    let (letter, name) = match hook.point {
        Point::Enter(name) => ("p".to_owned(), name),
        Point::Leave(name) => {
            let active = if hook.subject == Subject::Event(Event::Connect) {
                MOST_ACTIVE
            } else {
                MAX_ACTIVE
            };
            (format!("r{active}"), name)
        }
        Point::Tracepoint(_) => {
            return Ok(Probe {
                definitions: Vec::new(),
            });
        }
    };
    let function = btf
        .function(name)
        .ok_or_else(|| format!("this kernel has no function {name}()"))?;
    let context = Context {
        btf,
        arch,
        name,
        function,
    };
    let mut fixed = format!("{letter}:{group}/{} {name}", hook.name());
    let (mut chain, mut cgroup) = (None, None);
    for fetch in hook.fetch {
        match *fetch {
            Fetch::Stack => fixed.push_str(&format!(" {}=$stack", Value::Sp)),
            Fetch::Return => {
                let signed = if matches!(btf.shape(context.function.result), Shape::Pointer(_)) {
                    64
                } else {
                    32
                };
                fixed.push_str(&format!(" {}=$retval:s{signed}", Value::Ret));
            }
            Fetch::Number(value, expression) => {
                fixed.push_str(&format!(" {value}={}", context.number(expression)?))
            }
            Fetch::Words(series, expression, count) => {
                for at in 0..count {
                    let word = context.number(&format!("{expression}[{at}]"))?;
                    fixed.push_str(&format!(" {}={word}", series.nth(at)));
                }
            }
            Fetch::String(value, expression) => {
                fixed.push_str(&format!(" {value}={}", context.string(expression)?))
            }
            Fetch::Flag(value, expression) => {
                let flag = (context.number(expression)).or_else(|_| context.bit(expression))?;
                fixed.push_str(&format!(" {value}={flag}"));
            }
            Fetch::User(expression) => fixed.push_str(&context.user(expression)?),
            Fetch::Names(expression) => chain = Some(expression),
            Fetch::Cgroup(expression) => cgroup = Some(expression),
        }
    }
    if let Some(cgroup) = cgroup {
        return Ok(Probe {
            definitions: context.cgroups(cgroup, fixed)?,
        });
    }
    let Some(chain) = chain else {
        return Ok(Probe {
            definitions: vec![(0, fixed)],
        });
    };
    let mut deepening = Vec::new();
    // Inode numbers are not enough on btrfs; only its module's types tell the subvolume.
    let subvolume = |dentry: &str| context.number(&format!("{dentry}{SUBVOLUME}"));
    let subvolumes = subvolume(chain).is_ok();
    if subvolumes {
        let magic = context.number(&format!("{chain}->d_sb->s_magic"))?;
        let (own, number) = (Series::Subvolume.nth(0), subvolume(chain)?);
        fixed.push_str(&format!(" {}={magic} {own}={number}", Value::Magic));
    }
    let mut line = fixed;
    // The inodes of the levels so far.
    let mut inodes: Vec<String> = Vec::new();
    let mut dentry = chain.to_owned();
    for level in 0.. {
        let name = context.string(&format!("{dentry}->d_name.name"))?;
        let inode = context.number(&format!("{dentry}->d_inode->i_ino"))?;
        if name.len().max(inode.len()) > MAX_ARGUMENT {
            break;
        }
        line.push_str(&format!(" {}={name}", Series::Name.nth(level)));
        let mut inode = format!(" {}={inode}", Series::Inode.nth(level));
        if subvolumes {
            let own = Series::Subvolume.nth(level);
            inode += &format!(" {own}={}", subvolume(&dentry)?);
        }
        inodes.push(inode);
        // A subvolume is one pointer further away than a name.
        let top = level - usize::from(subvolumes && level > 1);
        let told = match level {
            0 => String::new(),
            _ if top > 1 => format!("{}{}", inodes[1], inodes[top]),
            _ => inodes[1].clone(),
        };
        deepening.push((level as u32 + 1, format!("{line}{told}")));
        dentry.push_str("->d_parent");
    }
    deepening.reverse();
    Ok(Probe {
        definitions: deepening,
    })
}

struct Context<'a> {
    btf: &'a Btf,
    arch: Arch,
    name: &'a str,
    function: Function,
}

/// Where an expression's value is: behind so many pointers from a register.
struct Place {
    register: &'static str,
    offsets: Vec<i64>,
    kind: u32,
}

impl Place {
    fn argument(mut self, extra: &[i64], ctype: &str) -> String {
        self.offsets.extend(extra);
        format!("{}:{ctype}", self.value())
    }

    fn value(&self) -> String {
        let register = format!("%{}", self.register);
        (self.offsets.iter()).fold(register, |inner, offset| format!("{offset:+}({inner})"))
    }
}

impl Context<'_> {
    fn number(&self, expression: &str) -> Result<String, String> {
        let place = self.place(expression)?;
        match (self.btf.shape(place.kind), self.btf.size(place.kind)) {
            (Shape::Number(_) | Shape::Pointer(_), Some(size @ (1 | 2 | 4 | 8))) => {
                Ok(place.argument(&[], &format!("u{}", 8 * size)))
            }
            _ => Err(format!("'{expression}' of {}() is no number", self.name)),
        }
    }

    fn string(&self, expression: &str) -> Result<String, String> {
        Ok(self.place(expression)?.argument(&[0], "string"))
    }

    fn bit(&self, expression: &str) -> Result<String, String> {
        let missing = || format!("'{expression}' of {}() is no bit field", self.name);
        let (pointer, member) = expression.rsplit_once("->").ok_or_else(missing)?;
        let mut place = self.place(pointer)?;
        let Shape::Pointer(structure) = self.btf.shape(place.kind) else {
            return Err(missing());
        };
        let (at, width) = (self.btf.bit_field(structure, member)).ok_or_else(missing)?;
        place.offsets.push(i64::from(at / 32 * 4));
        Ok(place.argument(&[], &format!("b{width}@{}/32", at % 32)))
    }

    /// An array of user memory is refused, so it is fetched a word at a time.
    fn user(&self, expression: &str) -> Result<String, String> {
        let address = self.place(expression)?.value();
        let word = |i| format!(" {}=+u{}({address}):u64", Series::Word.nth(i), 8 * i);
        Ok((0..ARGV / 8).map(word).collect())
    }

    /// The probes that fetch a cgroup's names, of the most to one.
    fn cgroups(&self, node: &str, fixed: String) -> Result<Vec<(u32, String)>, String> {
        let mut node = node.to_owned();
        let mut line = fixed;
        let mut deepening = Vec::new();
        for level in 0.. {
            let name = self.string(&format!("{node}->name"))?;
            if name.len() > MAX_ARGUMENT {
                break;
            }
            line.push_str(&format!(" {}={name}", Series::Cgroup.nth(level)));
            deepening.push((level as u32 + 1, line.clone()));
            // Since 6.15 it must not be used without a lock.
            let parent = ["parent", "__parent"].map(|parent| format!("{node}->{parent}"));
            let parent = parent.into_iter().find(|parent| self.place(parent).is_ok());
            node = parent.ok_or_else(|| format!("'{node}' has no parent"))?;
        }
        deepening.reverse();
        Ok(deepening)
    }

    /// Resolves an expression of the hook table.
    fn place(&self, expression: &str) -> Result<Place, String> {
        let missing = |what: &str| {
            format!(
                "'{expression}' of {}(): this kernel has no {what}",
                self.name
            )
        };
        let (cast, rest) = match expression
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
        {
            Some((cast, rest)) => (Some(cast), rest),
            None => (None, expression),
        };
        let (parameter, mut rest) = split_word(rest);
        let position = self
            .function
            .parameters
            .iter()
            .position(|(name, _)| name == parameter);
        let position = position.ok_or_else(|| missing(&format!("parameter {parameter}")))?;
        let register = *self
            .arch
            .arguments
            .get(position)
            .ok_or_else(|| missing("register for that parameter"))?;
        let mut place = Place {
            register,
            offsets: Vec::new(),
            kind: self.function.parameters[position].1,
        };
        let mut target = match cast {
            Some(name) => Some(
                self.btf
                    .structure(name)
                    .ok_or_else(|| missing(&format!("struct {name}")))?,
            ),
            None => None,
        };
        // How far into its struct the pointer of before points.
        let mut within = 0;
        while !rest.is_empty() {
            if let Some(outer) = rest.strip_prefix('^') {
                let (name, after) = split_word(outer);
                let (member, after) = split_word(after.strip_prefix('.').unwrap_or(after));
                let structure = self.btf.structure(name);
                let structure = structure.ok_or_else(|| missing(&format!("struct {name}")))?;
                let (offset, _) = (self.btf.member(structure, member))
                    .ok_or_else(|| missing(&format!("{name}.{member}")))?;
                within = i64::from(offset);
                (target, rest) = (Some(structure), after);
                continue;
            }
            if let Some(member) = rest.strip_prefix("->") {
                let (member, after) = split_word(member);
                let structure = match (target.take(), self.btf.shape(place.kind)) {
                    (Some(structure), _) => structure,
                    (None, Shape::Pointer(structure)) => structure,
                    _ => return Err(missing(&format!("pointer before ->{member}"))),
                };
                let (offset, kind) = self
                    .btf
                    .member(structure, member)
                    .ok_or_else(|| missing(member))?;
                place
                    .offsets
                    .push(i64::from(offset) - std::mem::take(&mut within));
                (place.kind, rest) = (kind, after);
                continue;
            }
            // The value is in memory already: only its offset and type change.
            let inner = place
                .offsets
                .last_mut()
                .ok_or_else(|| missing("memory behind a register"))?;
            if let Some(member) = rest.strip_prefix('.') {
                let (member, after) = split_word(member);
                let (offset, kind) = self
                    .btf
                    .member(place.kind, member)
                    .ok_or_else(|| missing(member))?;
                *inner += i64::from(offset);
                (place.kind, rest) = (kind, after);
            } else {
                let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let (index, after) = index.ok_or_else(|| missing(rest))?;
                let index: u32 = index.parse().map_err(|_| missing(rest))?;
                let Shape::Array(element) = self.btf.shape(place.kind) else {
                    return Err(missing("array"));
                };
                let size = (self.btf.size(element)).ok_or_else(|| missing("element size"))?;
                *inner += i64::from(index) * i64::from(size);
                (place.kind, rest) = (element, after);
            }
        }
        Ok(place)
    }
}

/// An identifier and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len()),
    )
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

    fn lines(
        point: Point,
        fetch: &'static [Fetch],
        btf: &Btf,
    ) -> Result<Vec<(u32, String)>, String> {
        let hook = Hook {
            subject: Subject::Event(Event::Mkdir),
            role: Role::Entry,
            point,
            fetch,
            conditions: &[],
            needed: true,
        };
        let arch = Arch::of("x86_64").unwrap();
        Ok(plan(&hook, btf, arch, "group")?.definitions)
    }

    #[test]
    fn fetches_by_name() {
        let fetch = &[
            Fetch::Stack,
            Fetch::Number(Value::Mode, "mode"),
            Fetch::Number(Value::Num, "(address)dentry->words[2]"),
            Fetch::String(Value::Comm, "dentry->d_parent->d_name.name"),
        ];
        let lines = lines(Point::Enter("do_it"), fetch, &kernel(false)).unwrap();
        let expected = "p:group/mkdir_entry_do_it do_it sp=$stack mode=%di:u32 num=+12(%si):u32 comm=+0(+40(+24(%si))):string";
        assert_eq!(lines, [(0, expected.to_owned())]);
    }

    #[test]
    fn asks_for_the_deepest_chain_first() {
        let lines = lines(
            Point::Enter("do_it"),
            &[Fetch::Names("dentry")],
            &kernel(false),
        )
        .unwrap();
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
            let lines = lines(Point::Leave("do_it"), fetch, &kernel(pointer)).unwrap();
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
            let error = lines(Point::Enter("do_it"), fetch, &btf).unwrap_err();
            assert_eq!(
                error,
                format!("'{expression}' of do_it(): this kernel has no {lacking}")
            );
        }
        assert_eq!(
            lines(Point::Enter("gone"), &[], &btf).unwrap_err(),
            "this kernel has no function gone()"
        );
    }
}
