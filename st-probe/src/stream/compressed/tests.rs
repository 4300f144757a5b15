//! Attacks on what reads compressed streams, and what it must give.

use super::*;
use zstd_safe::zstd_sys::ZSTD_EndDirective as Then;
use zstd_safe::{CCtx, CParameter};

/// An input that comes in pieces of so many bytes, and what it has at its end.
struct Pieces<'a>(&'a [u8], usize, Option<ErrorKind>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.0, self.2) {
            ([], Some(error)) => Err(error.into()),
            _ => {
                let count = self.1.min(buffer.len());
                self.0.read(&mut buffer[..count])
            }
        }
    }
}

/// What an input decompresses to, and the error in which it ends; it must be the same however
/// it is read.
fn read(bytes: &[u8]) -> (Vec<u8>, Option<io::Error>) {
    let read = |piece, size| {
        let mut plain = Plain::new(Pieces(bytes, piece, None));
        let (mut all, mut buffer) = (Vec::new(), vec![0; size]);
        loop {
            match plain.read(&mut buffer) {
                Ok(0) => return (all, None),
                Ok(count) => all.extend(&buffer[..count]),
                Err(error) => return (all, Some(error)),
            }
        }
    };
    let (all, error) = read(usize::MAX, 256 << 10);
    for (piece, size) in [(1, 256 << 10), (7, 100), (usize::MAX, 1)] {
        let (again, other) = read(piece, size);
        assert!(again == all, "in pieces of {piece}, reads of {size}");
        let text = |error: &Option<io::Error>| error.as_ref().map(io::Error::to_string);
        assert_eq!(text(&other), text(&error));
    }
    (all, error)
}

fn whole(bytes: &[u8]) -> Vec<u8> {
    let (all, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    all
}

/// One frame, each of the parts flushed; and where each part's end is in it.
fn frame(parts: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let mut context = CCtx::create();
    let checksum = CParameter::ChecksumFlag(true);
    context.set_parameter(checksum).unwrap();
    let (mut frame, mut ends) = (Vec::new(), Vec::new());
    let mut put = |part: &[u8], then| {
        let mut out = Vec::with_capacity(part.len() + 1000);
        let mut from = InBuffer::around(part);
        let mut to = OutBuffer::around(&mut out);
        let left = context.compress_stream2(&mut to, &mut from, then).unwrap();
        assert_eq!((left, from.pos()), (0, part.len()));
        frame.extend(&out);
        frame.len()
    };
    for part in parts {
        ends.push(put(part, Then::ZSTD_e_flush));
    }
    put(b"", Then::ZSTD_e_end);
    (frame, ends)
}

/// Bytes that compress a little.
fn part(seed: u32) -> Vec<u8> {
    let number = |at: u32| (at * at / 3 % 61 + seed) as u8;
    (0..200).map(number).collect()
}

fn skippable(low: u8, length: u32) -> Vec<u8> {
    let mut frame = SKIPPABLE.to_vec();
    frame[0] |= low;
    frame.extend(length.to_le_bytes());
    frame.resize(frame.len() + length as usize, 0x55);
    frame
}

#[test]
fn a_plain_stream_is_read_as_it_is() {
    for bytes in [
        &b""[..],
        b"\x81",
        b"\x81\xa1t\xa1x",
        b"(",
        b"(\xb5/",
        b"(\xb5/\xfe and more",
        b"P*M\x19",
        b"X*",
        b"hello, world",
    ] {
        let (all, error) = read(bytes);
        if FRAME.starts_with(bytes) && !bytes.is_empty() || bytes == b"X*" {
            assert_eq!(error.unwrap().kind(), ErrorKind::UnexpectedEof);
        } else {
            assert_eq!((all.as_slice(), error.is_none()), (bytes, true));
        }
    }
}

#[test]
fn a_plain_stream_is_read_into_the_buffer_of_whoever_reads() {
    struct Watched(usize);
    impl Read for Watched {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = buffer.as_ptr().addr();
            buffer.fill(0x81);
            Ok(buffer.len())
        }
    }
    let mut plain = Plain::new(Watched(0));
    let mut buffer = [0; 100];
    assert_eq!(plain.read(&mut buffer).unwrap(), 4);
    assert_eq!(plain.read(&mut buffer).unwrap(), 100);
    assert_eq!(plain.input.input.0, buffer.as_ptr().addr());
    assert!(!plain.is_compressed());
}

#[test]
fn an_input_that_was_empty_at_first_is_known_by_its_first_bytes() {
    /// Ends before it has begun.
    struct Grows<'a>(bool, &'a [u8]);
    impl Read for Grows<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match std::mem::replace(&mut self.0, true) {
                false => Ok(0),
                true => self.1.read(buffer),
            }
        }
    }
    let (frame, _) = frame(&[b"one"]);
    let mut plain = Plain::new(Grows(false, &frame));
    let mut all = Vec::new();
    plain.read_to_end(&mut all).unwrap();
    assert!(all.is_empty() && !plain.is_compressed());
    plain.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"one");
}

#[test]
fn all_that_was_flushed_before_a_cut_is_read() {
    let parts = [part(0), part(1), part(2)];
    let (frame, ends) = frame(&parts.each_ref().map(Vec::as_slice));
    assert_eq!(whole(&frame), parts.concat());
    for cut in 1..frame.len() {
        let (all, error) = read(&frame[..cut]);
        let flushed = ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(all, parts[..flushed].concat(), "cut at {cut}");
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let expected = format!("the compressed input is cut at byte {cut}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn all_that_was_flushed_before_a_bad_byte_is_read() {
    let parts = [part(0), part(1), part(2)];
    let (frame, ends) = frame(&parts.each_ref().map(Vec::as_slice));
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut bad = frame.clone();
            bad[at] ^= 1 << bit;
            let (all, error) = read(&bad);
            let before = ends.iter().filter(|&&end| end <= at).count();
            assert!(all.starts_with(&parts[..before].concat()), "bad at {at}");
            // If no block is bad for it, the checksum is, unless that bit tells nothing.
            let harmless = before == 0 || all == parts.concat();
            assert!(harmless || error.is_some(), "bad at {at}");
        }
    }
}

#[test]
fn frames_are_joined_and_skippable_ones_left_out() {
    let (first, _) = frame(&[&part(0)]);
    let (second, _) = frame(&[&part(1), &part(2)]);
    let (empty, _) = frame(&[]);
    let bytes = [
        skippable(0, 0),
        skippable(15, 100_000),
        first,
        skippable(7, 3),
        empty.clone(),
        second,
        empty,
        skippable(1, 5),
    ];
    assert_eq!(whole(&bytes.concat()), [part(0), part(1), part(2)].concat());
    let cut = &skippable(0, 1000)[..500];
    let (all, error) = read(cut);
    assert!(all.is_empty());
    assert!(error.unwrap().to_string().ends_with("cut at byte 500"));
}

#[test]
fn garbage_after_a_frame_is_an_error() {
    let (frame, _) = frame(&[&part(0)]);
    for garbage in [
        &b"\x81\xa1t\xa1x"[..],
        b"\0\0\0\0\0\0\0\0",
        b"(\xb5/\xfc....",
    ] {
        let (all, error) = read(&[&frame, garbage].concat());
        assert_eq!(all, part(0));
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let at = format!("at byte {} of the compressed input: ", frame.len());
        assert!(error.to_string().starts_with(&at), "{error}");
    }
}

/// The header of a frame with a window of so many bytes, as a binary logarithm.
fn header(window: u8) -> Vec<u8> {
    [&FRAME[..], &[0, (window - 10) << 3]].concat()
}

#[test]
fn a_frame_that_needs_much_memory_is_refused() {
    let last = [1, 0, 0];
    assert!(whole(&[&header(23)[..], &last].concat()).is_empty());
    for window in [24, 31, 41] {
        let (_, error) = read(&[&header(window)[..], &last].concat());
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("more than 8 MiB"), "{error}");
    }
}

#[test]
fn a_little_that_decompresses_to_much_takes_no_memory() {
    const BLOCK: usize = 128 << 10;
    const BLOCKS: usize = 2000;
    // One byte that is repeated, and the header that says so.
    let [first, second, third, _] = ((BLOCK as u32) << 3 | 1 << 1).to_le_bytes();
    let mut bomb = header(20);
    for _ in 0..BLOCKS {
        bomb.extend([first, second, third, b'x']);
    }
    bomb.extend([1, 0, 0]);
    let mut plain = Plain::new(bomb.as_slice());
    let (mut buffer, mut sum) = (vec![0; 64 << 10], 0);
    loop {
        match plain.read(&mut buffer).unwrap() {
            0 => break,
            count => sum += count,
        }
    }
    assert_eq!(sum, BLOCK * BLOCKS);
    let Form::Compressed(decompressor) = &plain.form else {
        panic!("it is compressed");
    };
    assert!(decompressor.context.sizeof() < 2 << 20);
}

#[test]
fn whatever_was_flushed_is_read_without_any_more_input() {
    // More than a buffer takes at once.
    let parts = [vec![b'x'; 300_000], part(1)];
    let (frame, ends) = frame(&parts.each_ref().map(Vec::as_slice));
    for (end, expected) in ends.iter().zip([300_000, 300_200]) {
        for size in [1000, 1 << 20] {
            let input = Pieces(&frame[..*end], usize::MAX, Some(ErrorKind::WouldBlock));
            let (mut plain, mut sum) = (Plain::new(input), 0);
            let mut buffer = vec![0; size];
            while let Ok(count) = plain.read(&mut buffer) {
                sum += count;
            }
            assert_eq!(sum, expected);
        }
    }
}
