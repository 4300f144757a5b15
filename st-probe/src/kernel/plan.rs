//! From a row of the hook table and this kernel's types to a probe definition.
//!
//! Syntax: Documentation/trace/kprobetrace.rst (Linux 6.12).

use crate::kernel::btf::{Btf, Function, Shape};
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
    /// To be tried in this order, the most names first: the kernel may refuse those with many, and
    /// those that fetch a variable. None for a static tracepoint, which is there already.
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
    let (symbol, function) = match (btf.function(name), row.module) {
        (Some(function), _) => (name.to_owned(), function),
        (None, Some(module)) => (format!("{module}:{name}"), Function::default()),
        (None, None) => return Err(Error::Lacking(Lack::Function(name.to_owned()))),
    };
    let planner = Planner {
        scope: Scope {
            btf,
            arch,
            name,
            function,
        },
    };
    let mut line = format!("{kind}:{group}/{} {symbol}", row.name());
    let mut without_variables = line.clone();
    for fetch in row.fetch {
        let arguments = planner.arguments(*fetch)?;
        line += &arguments;
        if !matches!(fetch, Fetch::Variable(..)) {
            without_variables += &arguments;
        }
    }
    let definitions = match row.chain {
        None if line != without_variables => vec![
            Definition::new(0, line),
            Definition::new(0, without_variables),
        ],
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
            // Not $retval: from Linux 6.5 on, the kernel looks its type up among all types that it
            // knows, which takes long.
            Fetch::Return => {
                let register = self.scope.arch.result;
                format!(" {}=%{register}:{}", Value::Ret, self.result())
            }
            Fetch::Number(value, expression) => format!(" {value}={}", self.number(expression)?),
            Fetch::Optional(value, expression) => match self.number(expression) {
                Err(Error::Lacking(_)) => String::new(),
                number => format!(" {value}={}", number?),
            },
            Fetch::Variable(value, symbol) => format!(" {value}=@{symbol}:u32"),
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
mod tests;
