//! The kernel's own type information: function parameters and member offsets.
//!
//! Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h (Linux 6.12). Read from
//! `/sys/kernel/btf/vmlinux`, which is in the byte order of the machine.

#[cfg(test)]
pub(crate) mod testing;

use crate::stream::arch::LONG;

const MAGIC: u16 = 0xeb9f;
/// BTF_KIND_FUNC.
const FUNCTION: u32 = 12;
/// How many typedefs and qualifiers may lead to a type: a circle of them ends here.
const MAX_DEPTH: u32 = 32;
/// In how many structs and unions a member is looked for: a struct and the ones without a name
/// inside it.
const MAX_ANONYMOUS: usize = 256;
/// The longest name of a parameter. The kernel accepts none in BTF that is longer than
/// KSYM_NAME_LEN (include/linux/kallsyms.h).
const MAX_NAME: usize = 512;

/// Type information, indexed.
pub struct Btf {
    data: Vec<u8>,
    /// Where in the data the strings begin.
    strings: usize,
    /// Where in the data each type begins, by its id. Type 0 is void, which is not in the data.
    types: Vec<u32>,
    /// The first bytes of the name of each function, struct and union, with its id, sorted. Whole
    /// names are not kept: names may overlap in the data, so that all of them together can be
    /// much longer than it.
    names: Vec<(u64, u32)>,
}

/// A function's parameters and result; by default, nothing is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Function {
    /// Name and type id of each parameter.
    pub parameters: Vec<(String, u32)>,
    /// Type id of the result; 0 is void.
    pub result: u32,
}

/// What matters of a type for reading a value of it from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An integer or an enum, with its size in bytes.
    Number(u32),
    /// A pointer, with the id of the type that it points to.
    Pointer(u32),
    /// A struct or union, with its own id.
    Struct(u32),
    /// An array, with the id of its elements' type.
    Array(u32),
    /// Anything else.
    Other,
}

/// The BTF data is not what the format says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreadable BTF: {}", self.0)
    }
}

impl std::error::Error for Corrupt {}

impl Btf {
    /// Indexes BTF data in this machine's byte order.
    pub fn parse(data: Vec<u8>) -> Result<Self, Corrupt> {
        let word = |at: usize| u32_at(&data, at).ok_or(Corrupt("its header is cut"));
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(Corrupt("wrong magic or byte order"));
        }
        let header = word(4)? as usize;
        let section = |offset: u32, length: u32| {
            let start = header
                .checked_add(offset as usize)
                .filter(|&start| start <= data.len());
            let end = start
                .and_then(|start| start.checked_add(length as usize))
                .filter(|&end| end <= data.len());
            start
                .zip(end)
                .ok_or(Corrupt("a section reaches beyond its end"))
        };
        let (mut at, end) = section(word(8)?, word(12)?)?;
        let (strings, _) = section(word(16)?, word(20)?)?;
        let last_end = data[strings..].iter().rposition(|&byte| byte == 0);

        let mut btf = Self {
            data,
            strings,
            types: vec![0],
            names: Vec::new(),
        };
        while at < end {
            let id = btf.types.len() as u32;
            btf.types.push(at as u32);
            let info = btf.word(at + 4).ok_or(Corrupt("a type is cut"))?;
            let vlen = (info & 0xffff) as usize;
            let kind = info >> 24 & 0x1f;
            let extra = match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * vlen,
                6 | 13 => 8 * vlen,
                2 | 7..=12 | 16 | 18 => 0,
                _ => return Err(Corrupt("a kind of type that this version does not know")),
            };
            if is_struct(kind) || kind == FUNCTION {
                let name = btf.word(at).ok_or(Corrupt("a type is cut"))?;
                if last_end.is_none_or(|end| end < name as usize) {
                    return Err(Corrupt("a name beyond its end"));
                }
                let beginning = btf.text(name).map_or(0, beginning);
                if beginning != 0 {
                    btf.names.push((beginning, id));
                }
            }
            at += 12 + extra;
        }
        if at != end {
            return Err(Corrupt("the last type is cut"));
        }
        btf.names.sort_unstable();
        Ok(btf)
    }

    /// The kernel's BTF data with that of a module appended. The numbers of a module's types and
    /// strings continue those of the kernel. `None` if either is malformed.
    pub fn joined(kernel: &[u8], module: &[u8]) -> Option<Vec<u8>> {
        let sections = |data: &[u8]| {
            let word = |at| u32_at(data, at).map(|word| word as usize);
            let part = |header: usize, offset: usize, length: usize| {
                let start = header.checked_add(offset)?;
                Some(data.get(start..start.checked_add(length)?)?.to_vec())
            };
            let header = word(4)?;
            let types = part(header, word(8)?, word(12)?)?;
            Some((types, part(header, word(16)?, word(20)?)?))
        };
        let ((mut types, mut strings), (more, names)) = (sections(kernel)?, sections(module)?);
        types.extend(more);
        strings.extend(names);
        // struct btf_header: magic, version, flags, its length, and two sections.
        let mut data = kernel.get(..4)?.to_vec();
        let lengths = [types.len(), strings.len()].map(|length| length as u32);
        for word in [24, 0, lengths[0], lengths[0], lengths[1]] {
            data.extend(u32::to_ne_bytes(word));
        }
        data.extend(types);
        data.extend(strings);
        Some(data)
    }

    /// A kernel function, by name.
    pub fn function(&self, name: &str) -> Option<Function> {
        let prototype = self.field(self.find(name, |kind| kind == FUNCTION)?, 8)?;
        let vlen = self.field(prototype, 4)? & 0xffff;
        let parameters = (0..vlen).map(|i| {
            let at = self.start(prototype)? + 12 + 8 * i as usize;
            Some((self.name(self.word(at)?)?, self.word(at + 4)?))
        });
        Some(Function {
            parameters: parameters.collect::<Option<_>>()?,
            result: self.field(prototype, 8)?,
        })
    }

    /// A struct or union, by name: the id of its type.
    pub fn structure(&self, name: &str) -> Option<u32> {
        self.find(name, is_struct)
    }

    /// The first type that has this name and a kind that is wanted.
    fn find(&self, name: &str, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let beginning = beginning(name.as_bytes());
        let first = self.names.partition_point(|(other, _)| *other < beginning);
        let same = self.names[first..].iter();
        let same = same.take_while(|(other, _)| *other == beginning);
        same.map(|(_, id)| *id).find(|&id| {
            let kind = self.field(id, 4).map(|info| info >> 24 & 0x1f);
            kind.is_some_and(&wanted) && self.field(id, 0).is_some_and(|at| self.is(at, name))
        })
    }

    /// What a type is, without typedefs and qualifiers.
    pub fn shape(&self, mut id: u32) -> Shape {
        for _ in 0..MAX_DEPTH {
            let (Some(info), Some(size)) = (self.field(id, 4), self.field(id, 8)) else {
                return Shape::Other;
            };
            match info >> 24 & 0x1f {
                1 | 6 | 19 => return Shape::Number(size),
                2 => return Shape::Pointer(size),
                3 => return self.field(id, 12).map_or(Shape::Other, Shape::Array),
                4 | 5 => return Shape::Struct(id),
                8..=11 | 18 => id = size,
                _ => return Shape::Other,
            }
        }
        Shape::Other
    }

    /// How many bytes a value of a type takes in memory. `None` for an array, too.
    pub fn size(&self, id: u32) -> Option<u32> {
        match self.shape(id) {
            Shape::Number(size) => Some(size),
            Shape::Pointer(_) => Some(LONG),
            Shape::Struct(id) => self.field(id, 8),
            Shape::Array(_) | Shape::Other => None,
        }
    }

    /// A member of a struct that is no bit field: its offset in bytes and the id of its type. The
    /// members of anonymous structs and unions inside are the struct's own, as in C.
    pub fn member(&self, structure: u32, name: &str) -> Option<(u32, u32)> {
        let (at, width, kind) = self.member_within(structure, name, &mut Vec::new())?;
        (width == 0 && at % 8 == 0).then_some((at / 8, kind))
    }

    /// A bit field of a struct: its offset and its width in bits.
    pub fn bit_field(&self, structure: u32, name: &str) -> Option<(u32, u32)> {
        let (at, width, _) = self.member_within(structure, name, &mut Vec::new())?;
        (width > 0).then_some((at, width))
    }

    /// A member's offset in bits; its width in bits if it is a bit field, else 0; and the id of its
    /// type. `seen` are the structs in which the member was looked for so far: a circle of them
    /// ends.
    fn member_within(
        &self,
        structure: u32,
        name: &str,
        seen: &mut Vec<u32>,
    ) -> Option<(u32, u32, u32)> {
        let Shape::Struct(structure) = self.shape(structure) else {
            return None;
        };
        if seen.len() == MAX_ANONYMOUS || seen.contains(&structure) {
            return None;
        }
        seen.push(structure);
        let info = self.field(structure, 4)?;
        let has_bit_fields = info >> 31 == 1;
        for i in 0..info & 0xffff {
            let at = self.start(structure)? + 12 + 12 * i as usize;
            let (member, kind, bits) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let (bits, width) = if has_bit_fields {
                (bits & 0xff_ffff, bits >> 24)
            } else {
                (bits, 0)
            };
            if self.is(member, name) {
                return Some((bits, width, kind));
            }
            if self.is(member, "") {
                if let Some((inner, width, kind)) = self.member_within(kind, name, seen) {
                    return Some((bits.checked_add(inner)?, width, kind));
                }
            }
        }
        None
    }

    /// Where in the data a type begins.
    fn start(&self, id: u32) -> Option<usize> {
        self.types
            .get(id as usize)
            .map(|&at| at as usize)
            .filter(|&at| at > 0)
    }

    /// A word of a type: 0 is the offset of its name, 4 its kind and number of members, 8 its size
    /// or the id of another type.
    fn field(&self, id: u32, offset: usize) -> Option<u32> {
        self.word(self.start(id)? + offset)
    }

    fn word(&self, at: usize) -> Option<u32> {
        u32_at(&self.data, at)
    }

    /// The data from an offset into the strings on.
    fn text(&self, offset: u32) -> Option<&[u8]> {
        self.data.get(self.strings.checked_add(offset as usize)?..)
    }

    /// Whether this name is at an offset into the strings.
    fn is(&self, offset: u32, name: &str) -> bool {
        let rest = self
            .text(offset)
            .and_then(|text| text.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The name at an offset into the strings.
    fn name(&self, offset: u32) -> Option<String> {
        let text = self.text(offset)?;
        let name = text.iter().take(MAX_NAME).position(|&byte| byte == 0)?;
        Some(String::from_utf8_lossy(&text[..name]).into_owned())
    }
}

/// The first 8 bytes of a name, as a number: numbers have the order of the names. 0 if the name
/// is empty.
fn beginning(text: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let name = text.iter().take_while(|&&byte| byte != 0);
    bytes
        .iter_mut()
        .zip(name)
        .for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(bytes)
}

/// Whether types of this kind are structs or unions.
fn is_struct(kind: u32) -> bool {
    matches!(kind, 4 | 5)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        data.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::testing::Builder;
    use super::*;

    fn sample() -> Vec<u8> {
        let mut btf = Builder::new();
        let long = btf.int("long", 8);
        let pair = btf.array(long, 2);
        let inner = btf.structure("", 16, &[("both", 0, pair)]);
        let outer = btf.structure("outer", 24, &[("first", 0, long), ("", 8, inner)]);
        let pointer = btf.pointer(outer);
        btf.function("work", long, &[("count", long), ("outer", pointer)]);
        btf.build()
    }

    #[test]
    fn finds_functions_and_members_of_anonymous_structs() {
        let btf = Btf::parse(sample()).unwrap();
        let function = btf.function("work").unwrap();
        let names: Vec<_> = function
            .parameters
            .iter()
            .map(|parameter| parameter.0.as_str())
            .collect();
        assert_eq!(names, ["count", "outer"]);
        let Shape::Pointer(outer) = btf.shape(function.parameters[1].1) else {
            panic!("a pointer");
        };
        assert_eq!(btf.structure("outer"), Some(outer));
        let (offset, both) = btf.member(outer, "both").unwrap();
        assert_eq!((offset, btf.shape(both)), (8, Shape::Array(1)));
        assert_eq!(btf.member(outer, "nothing"), None);
        assert_eq!(btf.function("outer"), None);
    }

    #[test]
    fn bit_fields_are_no_members_of_whole_bytes() {
        let mut btf = Builder::new();
        let int = btf.int("int", 4);
        let members = [
            ("whole", 32, 0, int),
            ("first", 64, 1, int),
            ("last", 95, 1, int),
        ];
        let flags = btf.bit_fields("flags", 12, &members);
        let btf = Btf::parse(btf.build()).unwrap();
        assert_eq!(btf.member(flags, "whole"), Some((4, int)));
        assert_eq!(btf.bit_field(flags, "whole"), None);
        assert_eq!(btf.member(flags, "first"), None);
        assert_eq!(btf.bit_field(flags, "first"), Some((64, 1)));
        assert_eq!(btf.bit_field(flags, "last"), Some((95, 1)));
    }

    #[test]
    fn the_first_of_a_name_and_kind_is_found() {
        let mut btf = Builder::new();
        let int = btf.int("int", 4);
        let long = btf.int("long", 8);
        btf.function("something_else", int, &[]);
        let first = btf.structure("something", 4, &[]);
        btf.structure("something", 8, &[]);
        btf.function("something", long, &[]);
        btf.function("something", int, &[]);
        let btf = Btf::parse(btf.build()).unwrap();
        assert_eq!(btf.structure("something"), Some(first));
        assert_eq!(btf.function("something").unwrap().result, long);
        assert_eq!(btf.function("something_else").unwrap().result, int);
        for none in ["", "some", "something_", "something_else_", "int"] {
            assert_eq!(btf.function(none), None, "{none}");
            assert_eq!(btf.structure(none), None, "{none}");
        }
    }

    #[test]
    fn names_that_overlap_take_no_more_than_others() {
        let mut btf = Builder::new();
        let int = btf.int(&"x".repeat(5000), 4);
        (0..1000).for_each(|_| btf.function("f", int, &[("p", int)]));
        let mut data = btf.build();
        let btf = Btf::parse(data.clone()).unwrap();
        // Each function's name, and its parameter's, is the end of the one before.
        for (end, (_, id)) in (1u32..).zip(&btf.names) {
            for at in [btf.start(*id).unwrap(), btf.start(id - 1).unwrap() + 12] {
                data[at..at + 4].copy_from_slice(&end.to_ne_bytes());
            }
        }
        let btf = Btf::parse(data).unwrap();
        assert_eq!(btf.names.len(), 1000);
        assert!(size_of_val(&btf.names[..]) < btf.data.len());
        assert!(btf.find(&"x".repeat(4500), |_| true).is_some());
        // No parameter's name is as long as that.
        assert_eq!(btf.function(&"x".repeat(4500)), None);
    }

    #[test]
    fn survives_every_cut_and_flip() {
        let whole = sample();
        let exercise = |data: Vec<u8>| {
            let Ok(btf) = Btf::parse(data) else {
                return;
            };
            btf.function("work");
            for id in 0..20 {
                let _ = (btf.shape(id), btf.size(id), btf.member(id, "both"));
            }
        };
        for cut in 0..whole.len() {
            exercise(whole[..cut].to_vec());
        }
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            exercise(flipped);
        }
    }
}
