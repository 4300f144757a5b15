//! Makes names from outside harmless.
//!
//! What is written here can be printed on a terminal and divided into words at its spaces. The
//! original bytes can be restored: different names never look the same.
//!
//! A name in double quotes has these escapes, as in Rust: `\"` `\\` `\n` `\t` `\r`, `\xNN`
//! for a byte that is no UTF-8 and for an ASCII control character, `\u{N}` for any other
//! character that [`is_harmful`]. Any other character stands for itself.

/// Whether a character can command a terminal or deceive a reader: control characters,
/// invisible characters, and those that change how others are shown.
///
/// In Unicode these are the general category Cc, the properties Default_Ignorable_Code_Point and
/// Bidi_Control, the line and paragraph separators, and the interlinear annotations.
pub fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Appends a name as one word: as it is if it cannot be taken for anything else, or in quotes.
pub fn word(name: &[u8], out: &mut Vec<u8>) {
    // The formatter itself writes these where a name could be.
    let ours = matches!(name, b"" | b"?" | b"->" | b"<->" | [b'[', ..]);
    if !ours && is_plain(name) {
        out.extend(name);
    } else {
        quoted(name, out);
    }
}

/// Appends a name in quotes.
pub fn quoted(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    text(name, out);
    out.push(b'"');
}

/// Appends a name as it stands between quotes.
pub fn text(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.extend(b"\\\""),
                '\\' => out.extend(b"\\\\"),
                '\n' => out.extend(b"\\n"),
                '\t' => out.extend(b"\\t"),
                '\r' => out.extend(b"\\r"),
                _ if char.is_ascii_control() => byte(char as u8, out),
                _ if is_harmful(char) => out.extend(char.escape_unicode().map(|c| c as u8)),
                _ => out.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &invalid in chunk.invalid() {
            byte(invalid, out);
        }
    }
}

fn byte(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend([
        b'\\',
        b'x',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

/// Whether a name has no character that needs quotes.
fn is_plain(name: &[u8]) -> bool {
    // Nearly every name has such bytes only, and this test is fast.
    // Without a way out of the loop, the compiler tests many bytes at once.
    let special = |byte: &u8| !byte.is_ascii_graphic() | (*byte == b'"') | (*byte == b'\\');
    if name
        .iter()
        .fold(0, |any, byte| any | u8::from(special(byte)))
        == 0
    {
        return true;
    }
    std::str::from_utf8(name).is_ok_and(|name| {
        name.chars()
            .all(|char| !char.is_whitespace() && !is_harmful(char) && !matches!(char, '"' | '\\'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn show(name: &[u8]) -> String {
        let mut out = Vec::new();
        word(name, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in [
            "/srv/www/index.html",
            "/home/me/Überraschung",
            "/日本/語",
            "/tmp/.x'y`z$(id);a&b|c*?~#!",
            "/usr/bin/[",
            "../rel",
        ] {
            assert_eq!(show(name.as_bytes()), name);
        }
    }

    #[test]
    fn a_newline_cannot_forge_a_second_line() {
        assert_eq!(show(b"/a\n2026 delete /etc"), r#""/a\n2026 delete /etc""#);
        assert_eq!(show(b"/a\rb"), r#""/a\rb""#);
        assert_eq!(show("/a\u{85}b".as_bytes()), r#""/a\u{85}b""#);
        assert_eq!(
            show("/a\u{2028}b\u{2029}".as_bytes()),
            r#""/a\u{2028}b\u{2029}""#
        );
        assert_eq!(show(b"/a\x0bb\x0c"), r#""/a\x0bb\x0c""#);
    }

    #[test]
    fn an_escape_sequence_cannot_command_the_terminal() {
        assert_eq!(
            show(b"/\x1b[2J\x1b]0;title\x07"),
            r#""/\x1b[2J\x1b]0;title\x07""#
        );
    }

    #[test]
    fn a_c1_control_cannot_replace_the_escape_character() {
        assert_eq!(show("/\u{9b}2J".as_bytes()), r#""/\u{9b}2J""#);
        assert_eq!(show(b"/\x9b2J"), r#""/\x9b2J""#, "as a bare byte");
    }

    #[test]
    fn backspace_and_delete_cannot_wipe_out_what_was_printed() {
        assert_eq!(show(b"/evil\x08\x08ok\x7f"), r#""/evil\x08\x08ok\x7f""#);
    }

    #[test]
    fn a_nul_cannot_cut_the_line() {
        assert_eq!(show(b"/a\0b"), r#""/a\x00b""#);
    }

    #[test]
    fn a_bidi_override_cannot_turn_the_extension_around() {
        assert_eq!(show("/exe.\u{202e}txt".as_bytes()), r#""/exe.\u{202e}txt""#);
        assert_eq!(
            show("/\u{2066}a\u{2069}".as_bytes()),
            r#""/\u{2066}a\u{2069}""#
        );
        assert_eq!(show("/\u{61c}".as_bytes()), r#""/\u{61c}""#);
    }

    #[test]
    fn an_invisible_character_cannot_make_two_names_look_the_same() {
        for char in [
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{2060}',
            '\u{feff}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{180e}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{fff9}',
        ] {
            let expected = format!(r#""/etc/{}x""#, char.escape_unicode());
            assert_eq!(show(format!("/etc/{char}x").as_bytes()), expected);
        }
    }

    #[test]
    fn a_space_cannot_forge_another_column() {
        assert_eq!(show(b"/a -> /b"), r#""/a -> /b""#);
        assert_eq!(show("/a\u{a0}b".as_bytes()), "\"/a\u{a0}b\"");
        assert_eq!(show("/a\u{3000}b".as_bytes()), "\"/a\u{3000}b\"");
    }

    #[test]
    fn a_name_cannot_be_taken_for_our_own_marks() {
        assert_eq!(show(b"->"), r#""->""#);
        assert_eq!(show(b"<->"), r#""<->""#);
        assert_eq!(show(b"?"), r#""?""#);
        assert_eq!(show(b"[deleted]"), r#""[deleted]""#);
        assert_eq!(show(b""), r#""""#);
    }

    #[test]
    fn a_name_cannot_be_taken_for_an_escaped_one() {
        assert_eq!(show(br"/a\x1b"), r#""/a\\x1b""#);
        assert_eq!(show(br#"/a""#), r#""/a\"""#);
        assert_eq!(show(br#""/a""#), r#""\"/a\"""#);
    }

    #[test]
    fn bytes_that_are_no_text_are_not_guessed_at() {
        assert_eq!(show(b"/\xff\xfe"), r#""/\xff\xfe""#);
        assert_eq!(show(b"/\xc3"), r#""/\xc3""#, "a sequence cut short");
        assert_eq!(show(b"/\xc0\xaf"), r#""/\xc0\xaf""#, "an overlong slash");
        assert_eq!(show(b"/\xed\xa0\x80"), r#""/\xed\xa0\x80""#, "a surrogate");
        assert_eq!(show("/\u{fffd}".as_bytes()), "/\u{fffd}", "which is text");
    }

    /// What a reader does to get the bytes back.
    fn unescape(shown: &str) -> Vec<u8> {
        let Some(mut rest) = shown.strip_prefix('"') else {
            return shown.into();
        };
        rest = rest.strip_suffix('"').unwrap();
        let mut bytes = Vec::new();
        while let Some(char) = rest.chars().next() {
            rest = &rest[char.len_utf8()..];
            if char != '\\' {
                bytes.extend(char.to_string().as_bytes());
                continue;
            }
            let (escape, after) = rest.split_at(1);
            rest = after;
            match escape {
                "n" => bytes.push(b'\n'),
                "t" => bytes.push(b'\t'),
                "r" => bytes.push(b'\r'),
                "x" => {
                    bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                    rest = &rest[2..];
                }
                "u" => {
                    let (code, after) = rest[1..].split_once('}').unwrap();
                    let char = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
                    bytes.extend(char.to_string().as_bytes());
                    rest = after;
                }
                other => bytes.extend(other.as_bytes()),
            }
        }
        bytes
    }

    #[test]
    fn every_name_can_be_had_back_and_is_one_safe_word() {
        let mut random = Random::new();
        for _ in 0..100_000 {
            let name = random.name();
            let shown = show(&name);
            let seed = random.seed;
            assert_eq!(unescape(&shown), name, "seed {seed}: {shown}");
            assert!(!shown.chars().any(is_harmful), "seed {seed}: {shown:?}");
            let open = !shown.starts_with('"');
            assert!(
                !open || !shown.contains(char::is_whitespace),
                "seed {seed}: {shown:?}"
            );
        }
    }
}
