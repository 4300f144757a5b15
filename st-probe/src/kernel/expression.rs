//! Expressions of the hook tables: where a value is, starting from a parameter of the probed
//! function.
//!
//! An expression is C without the stars. Its grammar, in EBNF, without white space:
//!
//! ```text
//! expression = start, { step } ;
//! start      = parameter | "$retval" | "(", struct, ")", parameter, arrow ;
//! step       = arrow | "^", struct, ".", member, arrow | ".", member | "[", index, "]" ;
//! arrow      = "->", member ;
//! parameter  = name ;  struct = name ;  member = name ;
//! name       = ( letter | "_" ), { letter | digit | "_" } ;
//! index      = digit, { digit } ;
//! ```
//!
//! | written | in C | meaning |
//! |---|---|---|
//! | `dentry` | `dentry` | the parameter of this name, in its register |
//! | `$retval` | | what the function returns |
//! | `dentry->d_inode` | the same | a member of the struct that a pointer points to |
//! | `(sockaddr_in)address->sin_port` | `((struct sockaddr_in *)address)->sin_port` | the parameter is taken for a pointer to this struct |
//! | `new->uid.val` | the same | a member of a struct in memory |
//! | `loginuid.val` | the same | the first member of a struct that is the parameter itself, in its register |
//! | `words[2]` | the same | an element of an array in memory |
//! | `inode^btrfs_inode.vfs_inode->root` | `container_of(inode, struct btrfs_inode, vfs_inode)->root` | a member of the struct around the one that a pointer points to |
//!
//! Members of anonymous structs and unions are written as in C, without a name for those. The
//! last member may be a bit field.

use crate::kernel::btf::{Btf, Function, Shape};
use crate::stream::arch::{Arch, LONG};
use std::fmt;

/// In place of a parameter: what the function returns.
const RETVAL: &str = "$retval";

/// An expression, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression<'a> {
    text: &'a str,
    parameter: &'a str,
    steps: Vec<Step<'a>>,
}

/// What leads from one value to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'a> {
    /// The pointer is one to this struct. An arrow follows.
    Cast(&'a str),
    /// The pointer is one to this member of this struct. An arrow follows.
    Container(&'a str, &'a str),
    /// A member of the struct that the pointer points to.
    Arrow(&'a str),
    /// A member of the struct.
    Dot(&'a str),
    /// An element of the array.
    Element(u32),
}

/// The grammar does not allow an expression: a mistake in a hook table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The expression.
    pub expression: String,
    /// Its end, from the first character on that the grammar does not allow there.
    pub rest: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expression, rest } = self;
        write!(f, "'{expression}' is malformed before '{rest}'")
    }
}

impl std::error::Error for Malformed {}

impl<'a> Expression<'a> {
    /// Takes an expression apart.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        Self::take_apart(text).map_err(|rest| Malformed {
            expression: text.to_owned(),
            rest: rest.to_owned(),
        })
    }

    /// The error is what could not be parsed.
    fn take_apart(text: &'a str) -> Result<Self, &'a str> {
        let mut steps = Vec::new();
        let mut rest = text;
        if let Some(cast) = rest.strip_prefix('(') {
            let (name, after) = split_name(cast)?;
            rest = after.strip_prefix(')').ok_or(after)?;
            steps.push(Step::Cast(name));
        }
        let (parameter, mut rest) = match rest.strip_prefix(RETVAL) {
            Some(after) if steps.is_empty() => (RETVAL, after),
            _ => split_name(rest)?,
        };
        let mut needs_arrow = !steps.is_empty();
        while needs_arrow || !rest.is_empty() {
            let (step, after) = split_step(rest)?;
            if needs_arrow && !matches!(step, Step::Arrow(_)) {
                return Err(rest);
            }
            needs_arrow = matches!(step, Step::Container(..));
            steps.push(step);
            rest = after;
        }
        Ok(Self {
            text,
            parameter,
            steps,
        })
    }
}

/// A step and what follows it.
fn split_step(text: &str) -> Result<(Step<'_>, &str), &str> {
    if let Some(rest) = text.strip_prefix("->") {
        let (member, after) = split_name(rest)?;
        Ok((Step::Arrow(member), after))
    } else if let Some(rest) = text.strip_prefix('^') {
        let (structure, after) = split_name(rest)?;
        let (member, after) = split_name(after.strip_prefix('.').ok_or(after)?)?;
        Ok((Step::Container(structure, member), after))
    } else if let Some(rest) = text.strip_prefix('.') {
        let (member, after) = split_name(rest)?;
        Ok((Step::Dot(member), after))
    } else if let Some(rest) = text.strip_prefix('[') {
        let (index, after) = rest.split_once(']').ok_or(rest)?;
        // The parser of numbers takes a sign, too.
        if !index.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(rest);
        }
        Ok((Step::Element(index.parse().map_err(|_| rest)?), after))
    } else {
        Err(text)
    }
}

/// A name and what follows it.
fn split_name(text: &str) -> Result<(&str, &str), &str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (name, after) = text.split_at(end.unwrap_or(text.len()));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(text);
    }
    Ok((name, after))
}

/// An expression has no value, or not one of the kind that is wanted, in a function of this
/// kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The expression.
    pub expression: String,
    /// The function that is probed.
    pub function: String,
    /// Why.
    pub reason: Reason,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The function has no parameter of this name.
    Parameter(String),
    /// The parameter is not in one of the registers in which the first ones are.
    Register,
    /// There is no struct of this name.
    Struct(String),
    /// The struct has no member of this name.
    Member(String),
    /// What is in front of `->` and this member is no pointer.
    Pointer(String),
    /// What is in front of `.` or `[` is in a register, and no struct whose first member is wanted.
    Memory,
    /// What is in front of `[` is no array.
    Array,
    /// The size of the array's elements is not known.
    ElementSize,
    /// The value is no number that can be fetched: an integer or a pointer.
    Number,
    /// The value is no bit field, and no number.
    BitField,
    /// Not even the first name of a chain can be fetched: a probe's argument would be longer than
    /// so many characters, which are all that the kernel accepts.
    Name(usize),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' of {}()", self.expression, self.function)?;
        match &self.reason {
            Reason::Parameter(name) => write!(f, ": this kernel has no parameter {name}"),
            Reason::Register => write!(f, ": this kernel has no register for that parameter"),
            Reason::Struct(name) => write!(f, ": this kernel has no struct {name}"),
            Reason::Member(name) => write!(f, ": this kernel has no {name}"),
            Reason::Pointer(member) => write!(f, ": this kernel has no pointer before ->{member}"),
            Reason::Memory => write!(f, ": this kernel has no memory behind a register"),
            Reason::Array => write!(f, ": this kernel has no array"),
            Reason::ElementSize => write!(f, ": this kernel has no element size"),
            Reason::Number => write!(f, " is no number"),
            Reason::BitField => write!(f, " is no bit field"),
            Reason::Name(most) => write!(
                f,
                ": its name takes more than the {most} characters of an argument"
            ),
        }
    }
}

impl std::error::Error for Unresolved {}

/// Where a value is: in a register (the function's result, too), or in memory behind so many pointers from it. It is displayed
/// as probe definitions have it: Documentation/trace/kprobetrace.rst (Linux 6.12), FETCHARGS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    register: &'static str,
    /// What is added to each pointer before it is followed, from the register on.
    offsets: Vec<i64>,
    /// What is there.
    pub form: Form,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An integer or a pointer of so many bytes: 1, 2, 4 or 8.
    Number(u32),
    /// So many bits of a word of 32 bits, from this one on.
    Bits {
        /// How many.
        width: u32,
        /// The number of the first one.
        shift: u32,
    },
    /// Anything else: a struct, an array.
    Other,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for offset in self.offsets.iter().rev() {
            write!(f, "{offset:+}(")?;
        }
        let sigil = if self.register == RETVAL { "" } else { "%" };
        write!(f, "{sigil}{}", self.register)?;
        self.offsets.iter().try_for_each(|_| f.write_str(")"))
    }
}

/// The probed function on this kernel: what expressions are resolved in.
pub struct Scope<'a> {
    /// This kernel's types.
    pub btf: &'a Btf,
    /// Its architecture.
    pub arch: Arch,
    /// The function's name.
    pub name: &'a str,
    /// The function.
    pub function: Function,
}

/// The type of a value.
#[derive(Clone, Copy)]
enum Kind {
    /// By its id.
    Type(u32),
    /// That of a bit field.
    Bits { width: u32, shift: u32 },
}

impl Scope<'_> {
    /// Finds where the value of an expression is.
    pub fn resolve(&self, expression: &Expression) -> Result<Operand, Unresolved> {
        self.find(expression)
            .map_err(|reason| self.unresolved(expression, reason))
    }

    /// The error that an expression has no value, for a reason.
    pub fn unresolved(&self, expression: &Expression, reason: Reason) -> Unresolved {
        Unresolved {
            expression: expression.text.to_owned(),
            function: self.name.to_owned(),
            reason,
        }
    }

    fn find(&self, expression: &Expression) -> Result<Operand, Reason> {
        let (register, id) = self.start(expression.parameter)?;
        let mut offsets: Vec<i64> = Vec::new();
        let mut kind = Kind::Type(id);
        // The struct that a cast or `^` says the pointer points into, and how far into it.
        let mut pointee = None;
        for step in &expression.steps {
            match *step {
                Step::Cast(name) => pointee = Some((self.structure(name)?, 0)),
                Step::Container(name, member) => {
                    let structure = self.structure(name)?;
                    let (offset, _) = (self.btf.member(structure, member))
                        .ok_or_else(|| Reason::Member(format!("{name}.{member}")))?;
                    pointee = Some((structure, i64::from(offset)));
                }
                Step::Arrow(member) => {
                    let (structure, within) = match (pointee.take(), self.shape(kind)) {
                        (Some(pointee), _) => pointee,
                        (None, Shape::Pointer(structure)) => (structure, 0),
                        _ => return Err(Reason::Pointer(member.to_owned())),
                    };
                    let offset;
                    (offset, kind) = self.member(structure, member)?;
                    offsets.push(offset - within);
                }
                // What is in memory already is only further on there.
                Step::Dot(member) => {
                    let inner = offsets.last_mut();
                    let structure = match (self.shape(kind), &inner) {
                        (Shape::Struct(structure), _) => structure,
                        (_, Some(_)) => return Err(Reason::Member(member.to_owned())),
                        (_, None) => return Err(Reason::Memory),
                    };
                    let fits = self.btf.size(structure).is_some_and(|size| size <= LONG);
                    let offset;
                    (offset, kind) = self.member(structure, member)?;
                    match inner {
                        Some(inner) => *inner += offset,
                        None if offset == 0 && fits => {}
                        None => return Err(Reason::Memory),
                    }
                }
                Step::Element(index) => {
                    let inner = offsets.last_mut().ok_or(Reason::Memory)?;
                    let Shape::Array(element) = self.shape(kind) else {
                        return Err(Reason::Array);
                    };
                    let size = self.btf.size(element).ok_or(Reason::ElementSize)?;
                    *inner += i64::from(index) * i64::from(size);
                    kind = Kind::Type(element);
                }
            }
        }
        Ok(Operand {
            register,
            offsets,
            form: self.form(kind),
        })
    }

    /// The register and the type of what an expression starts from.
    fn start(&self, name: &str) -> Result<(&'static str, u32), Reason> {
        if name == RETVAL {
            return Ok((RETVAL, self.function.result));
        }
        let parameters = &self.function.parameters;
        let position = parameters.iter().position(|(known, _)| known == name);
        let position = position.ok_or_else(|| Reason::Parameter(name.to_owned()))?;
        let registers = self.arch.arguments;
        let register = *registers.get(position).ok_or(Reason::Register)?;
        Ok((register, parameters[position].1))
    }

    fn structure(&self, name: &str) -> Result<u32, Reason> {
        (self.btf.structure(name)).ok_or_else(|| Reason::Struct(name.to_owned()))
    }

    /// A member's offset in bytes, and its type.
    fn member(&self, structure: u32, name: &str) -> Result<(i64, Kind), Reason> {
        if let Some((offset, kind)) = self.btf.member(structure, name) {
            return Ok((offset.into(), Kind::Type(kind)));
        }
        let field = self.btf.bit_field(structure, name);
        let (at, width) = field.ok_or_else(|| Reason::Member(name.to_owned()))?;
        let shift = at % 32;
        Ok((i64::from(at / 32 * 4), Kind::Bits { width, shift }))
    }

    fn shape(&self, kind: Kind) -> Shape {
        match kind {
            Kind::Type(id) => self.btf.shape(id),
            Kind::Bits { .. } => Shape::Other,
        }
    }

    fn form(&self, kind: Kind) -> Form {
        let id = match kind {
            Kind::Type(id) => id,
            Kind::Bits { width, shift } => return Form::Bits { width, shift },
        };
        match (self.btf.shape(id), self.btf.size(id)) {
            (Shape::Number(_) | Shape::Pointer(_), Some(size @ (1 | 2 | 4 | 8))) => {
                Form::Number(size)
            }
            _ => Form::Other,
        }
    }
}

#[cfg(test)]
mod tests;
