//! File modes as ls shows them.

/// The letter of the file's type in st_mode, inode(7); `?` if there is none.
pub fn type_letter(mode: u32) -> u8 {
    match mode >> 12 & 0o17 {
        0o01 => b'p',
        0o02 => b'c',
        0o04 => b'd',
        0o06 => b'b',
        0o10 => b'-',
        0o12 => b'l',
        0o14 => b's',
        _ => b'?',
    }
}

/// The permissions in st_mode, inode(7): `rwxr-xr-x`. The set-id bits and the sticky bit take the
/// place of the execute bits: `s` and `t` where the execute bit is set, `S` and `T` elsewhere.
pub fn permissions(mode: u32) -> [u8; 9] {
    let mut text = *b"rwxrwxrwx";
    for (index, letter) in text.iter_mut().enumerate() {
        if mode >> (8 - index) & 1 == 0 {
            *letter = b'-';
        }
    }
    for (index, bit, letter) in [(2, 0o4000, b's'), (5, 0o2000, b's'), (8, 0o1000, b't')] {
        if mode & bit != 0 {
            text[index] = match text[index] {
                b'x' => letter,
                _ => letter.to_ascii_uppercase(),
            };
        }
    }
    text
}

/// The permissions in st_mode as a number: `(0755)`.
pub fn octal(mode: u32) -> [u8; 6] {
    let digit = |shift: u32| b'0' + (mode >> shift & 7) as u8;
    [b'(', digit(9), digit(6), digit(3), digit(0), b')']
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_as_ls_shows_them() {
        for (mode, text) in [
            (0o000, "---------"),
            (0o644, "rw-r--r--"),
            (0o755, "rwxr-xr-x"),
            (0o421, "r---w---x"),
            (0o4755, "rwsr-xr-x"),
            (0o4644, "rwSr--r--"),
            (0o2755, "rwxr-sr-x"),
            (0o2745, "rwxr-Sr-x"),
            (0o1777, "rwxrwxrwt"),
            (0o1776, "rwxrwxrwT"),
            (0o7000, "--S--S--T"),
            (0o10_0600, "rw-------"),
        ] {
            assert_eq!(permissions(mode), text.as_bytes(), "{mode:o}");
        }
    }

    #[test]
    fn types() {
        for (mode, letter) in [
            (0o01_0644, 'p'),
            (0o02_0644, 'c'),
            (0o04_0755, 'd'),
            (0o06_0660, 'b'),
            (0o10_0644, '-'),
            (0o12_0777, 'l'),
            (0o14_0755, 's'),
            (0o644, '?'),
            (0o17_0644, '?'),
        ] {
            assert_eq!(char::from(type_letter(mode)), letter, "{mode:o}");
        }
    }
}
