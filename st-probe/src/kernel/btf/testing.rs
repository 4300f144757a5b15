//! BTF made by hand, for tests.

/// Types and strings so far. Each method that adds a type returns its id.
pub struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    /// No types.
    pub fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn name(&mut self, name: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        if name.is_empty() { 0 } else { at }
    }

    fn begin(&mut self, name: &str, kind: u32, vlen: usize, size: u32) -> u32 {
        let name = self.name(name);
        self.words(&[name, kind << 24 | vlen as u32, size]);
        self.count += 1;
        self.count
    }

    /// An integer of so many bytes.
    pub fn int(&mut self, name: &str, size: u32) -> u32 {
        let id = self.begin(name, 1, 0, size);
        self.words(&[8 * size]);
        id
    }

    /// A pointer to a type.
    pub fn pointer(&mut self, to: u32) -> u32 {
        self.begin("", 2, 0, to)
    }

    /// An array of so many elements of a type.
    pub fn array(&mut self, of: u32, count: u32) -> u32 {
        let id = self.begin("", 3, 0, 0);
        self.words(&[of, of, count]);
        id
    }

    /// A struct of so many bytes; members with their offsets in bytes.
    pub fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let id = self.begin(name, 4, members.len(), size);
        for (member, offset, kind) in members {
            let member = self.name(member);
            self.words(&[member, *kind, 8 * offset]);
        }
        id
    }

    /// The same; members with their offsets and widths in bits. The width is 0 where there is no bit field.
    pub fn bit_fields(&mut self, name: &str, size: u32, members: &[(&str, u32, u32, u32)]) -> u32 {
        let has_bit_fields = 1 << 7;
        let id = self.begin(name, has_bit_fields | 4, members.len(), size);
        for (member, offset, width, kind) in members {
            let member = self.name(member);
            self.words(&[member, *kind, width << 24 | offset]);
        }
        id
    }

    /// A function.
    pub fn function(&mut self, name: &str, result: u32, parameters: &[(&str, u32)]) {
        let prototype = self.begin("", 13, parameters.len(), result);
        for (parameter, kind) in parameters {
            let parameter = self.name(parameter);
            self.words(&[parameter, *kind]);
        }
        self.begin(name, 12, 0, prototype);
    }

    /// The data of BTF: a header, the types, the strings.
    pub fn build(self) -> Vec<u8> {
        let mut data = super::MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        let lengths = [
            24,
            0,
            self.types.len() as u32,
            self.types.len() as u32,
            self.strings.len() as u32,
        ];
        data.extend(lengths.iter().flat_map(|word| word.to_ne_bytes()));
        [data, self.types, self.strings].concat()
    }
}
