//! The `format` files of events in tracefs: Documentation/trace/events.rst, "Event formats"
//! (Linux 6.12).

use crate::stream::record::Field;
use std::io;

/// The id and the fields of an event. The error is `InvalidData`: the text is malformed.
pub fn parse(text: &str) -> io::Result<(u16, Vec<Field>)> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut id = None;
    let mut fields = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(number) = line.strip_prefix("ID:") {
            id = number.trim().parse().ok();
        } else if let Some(field) = line.strip_prefix("field:") {
            let mut parts = field.split(';').map(str::trim);
            let declaration = parts.next().ok_or_else(malformed)?;
            let (mut ctype, mut name) = declaration.rsplit_once(' ').ok_or_else(malformed)?;
            let array;
            if let Some((base, length)) = name.split_once('[') {
                array = format!("{ctype}[{length}");
                (ctype, name) = (&array, base);
            }
            let mut number = |key: &str| -> io::Result<u16> {
                let part = parts
                    .next()
                    .and_then(|part| part.strip_prefix(key))
                    .ok_or_else(malformed)?;
                part.parse().map_err(|_| malformed())
            };
            fields.push(Field {
                name: name.to_owned(),
                offset: number("offset:")?,
                size: number("size:")?,
                signed: number("signed:")? == 1,
                ctype: ctype.to_owned(),
            });
        }
    }
    Ok((id.ok_or_else(malformed)?, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_event_format() {
        let text = "name: x\nID: 1234\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
                    \tfield:__data_loc char[] n0;\toffset:16;\tsize:4;\tsigned:1;\n\
                    \tfield:char comm[16];\toffset:20;\tsize:16;\tsigned:0;\n\nprint fmt: \"\"\n";
        let (id, fields) = parse(text).unwrap();
        assert_eq!(id, 1234);
        let fields: Vec<_> = fields
            .iter()
            .map(|f| {
                (
                    f.name.as_str(),
                    f.offset,
                    f.size,
                    f.signed,
                    f.ctype.as_str(),
                )
            })
            .collect();
        assert_eq!(
            fields,
            [
                ("common_type", 0, 2, false, "unsigned short"),
                ("n0", 16, 4, true, "__data_loc char[]"),
                ("comm", 20, 16, false, "char[16]"),
            ]
        );
        assert!(parse("garbage").is_err());
    }
}
