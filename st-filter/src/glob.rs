//! Shell patterns on bytes. No text makes matching take time that is exponential in the number
//! of stars.
//!
//! | pattern | matches |
//! |---|---|
//! | `?` | one character |
//! | `*` | any characters, also none |
//! | `[a-z_]` | one character of a set; `[!a-z_]`, `[^a-z_]`: one that is not |
//! | `\` and a character | that character |
//!
//! In a pattern on paths none of these matches a `/`, and besides there is
//!
//! | pattern | matches |
//! |---|---|
//! | `**` | any characters, `/` too |
//! | `**/` at the start of a component | any number of directories, also none |
//!
//! A character is a UTF-8 sequence or, where the bytes are no UTF-8, a single byte.

/// A pattern.
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
    /// The character that only a literal, `**` and `**/` match.
    separator: Option<Char>,
}

/// A Unicode scalar value, or [`BYTE`] plus a byte that is not part of UTF-8.
type Char = u32;

const BYTE: Char = 0x11_0000;
const SLASH: Char = b'/' as Char;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(Char),
    Any,
    Set {
        negated: bool,
        ranges: Vec<(Char, Char)>,
    },
    /// `*`
    Star,
    /// `**`
    Deep,
    /// `**/`
    Directories,
}

/// The first character of `text`, and its length in bytes.
fn first(text: &[u8]) -> Option<(Char, usize)> {
    let &byte = text.first()?;
    if byte.is_ascii() {
        return Some((Char::from(byte), 1));
    }
    let sequence = &text[..text.len().min(4)];
    let whole = sequence.utf8_chunks().next().map(|chunk| chunk.valid());
    Some(match whole.and_then(|valid| valid.chars().next()) {
        Some(char) => (Char::from(char), char.len_utf8()),
        None => (BYTE + Char::from(byte), 1),
    })
}

impl Glob {
    /// A pattern on paths. The error says what is wrong with it.
    pub fn path(pattern: &[u8]) -> Result<Self, String> {
        Self::new(pattern, Some(SLASH))
    }

    /// A pattern on names, where `/` is a character like others.
    pub fn name(pattern: &[u8]) -> Result<Self, String> {
        Self::new(pattern, None)
    }

    fn new(pattern: &[u8], separator: Option<Char>) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some((&byte, after)) = rest.split_first() {
            let token;
            (token, rest) = match byte {
                b'?' => (Token::Any, after),
                b'[' => set(after)?,
                b'*' => {
                    let stars = rest.iter().take_while(|&&byte| byte == b'*').count();
                    let after = &rest[stars..];
                    let at_component = matches!(
                        tokens.last(),
                        None | Some(Token::Literal(SLASH) | Token::Directories)
                    );
                    match after.strip_prefix(b"/") {
                        _ if stars == 1 || separator.is_none() => (Token::Star, after),
                        Some(after) if at_component => (Token::Directories, after),
                        _ => (Token::Deep, after),
                    }
                }
                _ => {
                    let (char, after) = literal(rest).ok_or(
                        "nothing follows the final backslash; for a backslash itself write two",
                    )?;
                    (Token::Literal(char), after)
                }
            };
            tokens.push(token);
        }
        Ok(Self { tokens, separator })
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // Where to go on when the present attempt fails: at the token after a star, with the
        // text after what the star matches so far. Only the last star of each sort is tried
        // further: if an earlier one could match more, the last one could match the same.
        let mut star = None;
        let mut deep = None;
        loop {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    star = Some((token, at));
                    continue;
                }
                Some(Token::Deep | Token::Directories) => {
                    token += 1;
                    deep = Some((token, at));
                    star = None;
                    continue;
                }
                Some(single) => match first(&text[at..]) {
                    Some((char, len)) if self.takes(single, char) => {
                        token += 1;
                        at += len;
                        continue;
                    }
                    _ => {}
                },
                None if at == text.len() => return true,
                None => {}
            }
            let further = star.and_then(|(after, reach)| {
                let (char, len) = first(&text[reach..])?;
                (Some(char) != self.separator).then_some((after, reach + len))
            });
            star = further;
            if further.is_none() {
                deep = deep.and_then(|(after, reach)| {
                    let skipped = match self.tokens[after - 1] {
                        Token::Directories => {
                            1 + text[reach..].iter().position(|&byte| byte == b'/')?
                        }
                        _ => first(&text[reach..])?.1,
                    };
                    Some((after, reach + skipped))
                });
            }
            match further.or(deep) {
                Some(retry) => (token, at) = retry,
                None => return false,
            }
        }
    }

    /// Whether a token for one character matches this one.
    fn takes(&self, token: &Token, char: Char) -> bool {
        match token {
            Token::Literal(literal) => *literal == char,
            _ if Some(char) == self.separator => false,
            Token::Set { negated, ranges } => {
                let inside = |&(low, high): &(Char, Char)| (low..=high).contains(&char);
                ranges.iter().any(inside) != *negated
            }
            _ => true,
        }
    }
}

/// Reads a set whose `[` is before `pattern`; also returns what follows its `]`.
fn set(pattern: &[u8]) -> Result<(Token, &[u8]), String> {
    const UNCLOSED: &str = "a '[' has no ']'; for a bracket itself write \\[";
    let mut rest = pattern;
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    // A `]` that comes first stands for itself.
    while rest.first() != Some(&b']') || ranges.is_empty() {
        let (low, after) = literal(rest).ok_or(UNCLOSED)?;
        rest = after;
        let mut high = low;
        if rest.first() == Some(&b'-') && !matches!(rest.get(1), None | Some(b']')) {
            (high, rest) = literal(&rest[1..]).ok_or(UNCLOSED)?;
        }
        if high < low {
            return Err("a range in [] ends before it begins".into());
        }
        ranges.push((low, high));
    }
    Ok((Token::Set { negated, ranges }, &rest[1..]))
}

/// The character at the start of `pattern`, or any character after a backslash there, and what
/// follows it.
fn literal(pattern: &[u8]) -> Option<(Char, &[u8])> {
    let pattern = pattern.strip_prefix(b"\\").unwrap_or(pattern);
    let (char, len) = first(pattern)?;
    Some((char, &pattern[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str, text: &str) -> bool {
        Glob::path(pattern.as_bytes())
            .unwrap()
            .matches(text.as_bytes())
    }

    fn name(pattern: &str, text: &str) -> bool {
        Glob::name(pattern.as_bytes())
            .unwrap()
            .matches(text.as_bytes())
    }

    #[test]
    fn a_star_stays_within_a_component() {
        assert!(path("/a/*", "/a/b"));
        assert!(path("/a/*", "/a/"));
        assert!(path("/*/c", "/ab/c"));
        assert!(path("/a*b*c", "/aXbYbZc"));
        assert!(!path("/a/*", "/a/b/c"));
        assert!(!path("/*c", "/a/c"));
    }

    #[test]
    fn two_stars_cross_components() {
        assert!(path("/a/**", "/a/b/c/d"));
        assert!(!path("/a/**", "/a"));
        assert!(path("/a**d", "/abc/b/c/d"));
        assert!(path("/a/***", "/a/b/c"));
    }

    #[test]
    fn two_stars_and_a_slash_are_any_number_of_directories() {
        assert!(path("/a/**/d", "/a/d"));
        assert!(path("/a/**/d", "/a/b/c/d"));
        assert!(!path("/a/**/d", "/a/bd"));
        assert!(path("**/d", "d"));
        assert!(path("**/**/d", "d"));
        assert!(path("**/d", "/a/d"));
        assert!(!path("**/d", "/a/bd"));
        assert!(path("/**/b/**/*.c", "/a/b/x/b/y/m.c"));
        assert!(!path("/a**/d", "/ad"), "only at the start of a component");
    }

    #[test]
    fn a_question_mark_is_one_character_but_no_slash() {
        assert!(path("/?", "/a"));
        assert!(path("/?", "/é"));
        assert!(!path("/?", "/"));
        assert!(!path("/?", "/ab"));
        assert!(!path("/a?b", "/a/b"));
    }

    #[test]
    fn bytes_that_are_no_text_are_characters_too() {
        let matches = |pattern: &[u8], text: &[u8]| Glob::path(pattern).unwrap().matches(text);
        assert!(matches(b"/?", b"/\xff"));
        assert!(matches(b"/??", b"/\xf0\x9f"));
        assert!(matches(b"/\xff", b"/\xff"));
        assert!(matches(b"/[\xfe-\xff]", b"/\xff"));
        assert!(!matches(b"/\xff", b"/\xfe"));
        assert!(matches(b"/*x", b"/\xff\xfex"));
    }

    #[test]
    fn sets() {
        assert!(path("[abc]", "b"));
        assert!(!path("[abc]", "d"));
        assert!(path("[a-cx-z]", "y"));
        assert!(path("[!a-c]", "d") && path("[^a-c]", "d"));
        assert!(!path("[!a-c]", "b") && !path("[^a-c]", "b"));
        assert!(path("[]]", "]") && path("[]a]", "a") && path("[!]]", "a"));
        assert!(path("[a-]", "-") && path("[-a]", "-"));
        assert!(path("[\\]x]", "]") && path("[a\\-z]", "-"));
        assert!(!path("[a\\-z]", "b"));
        assert!(path("[äö]", "ö") && path("[à-ý]", "é"));
        assert!(!path("a[/]b", "a/b") && !path("a[!x]b", "a/b"));
    }

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        assert!(path("\\*\\?\\[\\\\", "*?[\\"));
        assert!(!path("\\*", "a"));
        assert!(path("\\a", "a"));
    }

    #[test]
    fn in_names_a_slash_is_a_character_like_others() {
        assert!(name("kworker*", "kworker/0:1"));
        assert!(name("kworker?0**", "kworker/0:1"));
        assert!(name("a[/]b", "a/b"));
        assert!(name("", ""));
        assert!(!name("", "a"));
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        for pattern in ["[", "[a", "[]", "[!", "[a-", "[z-a]", "a\\", "[\\", "[a-\\"] {
            assert!(Glob::path(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }

    /// Of a name whose every start is promising, an exponential matcher would try for years.
    #[test]
    fn a_hostile_name_takes_no_time() {
        let text = "a".repeat(255);
        assert!(!path("*a*a*a*a*a*a*a*a*a*a*b", &text));
        let text = "a/".repeat(2000);
        assert!(!path("**/a/**/a/**/a/**/a/**/b", &text));
    }

    /// Matches by trying everything.
    fn try_all(tokens: &[Token], text: &[u8]) -> bool {
        let Some((token, tokens_left)) = tokens.split_first() else {
            return text.is_empty();
        };
        let mut reach = 0..=text.len();
        match token {
            Token::Star => {
                reach.any(|n| !text[..n].contains(&b'/') && try_all(tokens_left, &text[n..]))
            }
            Token::Deep => reach.any(|n| try_all(tokens_left, &text[n..])),
            Token::Directories => {
                reach.any(|n| (n == 0 || text[n - 1] == b'/') && try_all(tokens_left, &text[n..]))
            }
            Token::Literal(char) => {
                text.first().is_some_and(|&b| Char::from(b) == *char)
                    && try_all(tokens_left, &text[1..])
            }
            _ => text.first().is_some_and(|&b| b != b'/') && try_all(tokens_left, &text[1..]),
        }
    }

    #[test]
    fn agrees_with_trying_everything() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pick = |from: &[u8], len: u64| -> Vec<u8> {
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let len = next() % len;
            (0..len)
                .map(|_| from[(next() % from.len() as u64) as usize])
                .collect()
        };
        let mut matched = 0;
        for _ in 0..200_000 {
            let pattern = pick(b"aab//**?", 10);
            let text = pick(b"aab//", 10);
            let glob = Glob::path(&pattern).unwrap();
            let expected = try_all(&glob.tokens, &text);
            matched += u32::from(expected);
            assert_eq!(
                glob.matches(&text),
                expected,
                "{} on {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
        assert!(matched > 1000, "{matched}");
    }
}
