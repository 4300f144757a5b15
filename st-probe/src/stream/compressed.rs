//! Streams that are compressed, by zstd: what `systracer --record` writes and every stage reads.
//!
//! Such a stream consists of frames as of RFC 8878, with nothing between them, in which the plain
//! stream was compressed piece by piece. The pieces may begin and end anywhere in a record. A frame
//! need not tell its length, may have a checksum, uses no dictionary and needs a window of
//! 8 MiB at most (of a recording, 512 KiB). Skippable frames are skipped. So the first four bytes
//! are `28 b5 2f fd` or `5x 2a 4d 18`, and a plain stream begins with none of them. `zstd -dc` makes
//! the plain stream of it, and so does in Python, with the package zstandard,
//!
//! ```python
//! stream = zstandard.ZstdDecompressor().stream_reader(sys.stdin.buffer, read_across_frames=True)
//! for record in msgpack.Unpacker(stream, unicode_errors="surrogateescape"):
//! ```
//!
//! Of a recording that was cut, all blocks that are whole are good: systracer ends a block once a
//! second, if there is anything to be put in one.

use std::io::{self, ErrorKind, Read};
use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The first bytes of a frame.
const FRAME: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Those of a skippable frame, for whose lowest 4 bits any value is right.
const SKIPPABLE: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();

/// The binary logarithm of the largest window accepted, in bytes: what a decoder should support
/// at least, by RFC 8878, and what zstd(1) uses up to its level 19. A stage keeps that much of
/// what it has decompressed.
const WINDOW: u32 = 23;

/// Bytes of compressed input asked for in one read.
const CHUNK: usize = 64 << 10;

/// The length of the header of a block.
const BLOCK_HEADER: usize = 3;

/// The plain stream of an input that may be compressed, which its first bytes tell. A plain
/// input is read as it is.
///
/// Of a compressed input that is cut or corrupt, everything is read that was complete before.
/// Then reading fails with [`ErrorKind::UnexpectedEof`] or [`ErrorKind::InvalidData`], which
/// nothing else does, and the error says where.
pub struct Plain<R> {
    input: Begun<R>,
    form: Form,
}

enum Form {
    /// Nothing has been read.
    Unknown,
    Plain,
    Compressed(Decompressor),
}

impl<R: Read> Plain<R> {
    /// The plain stream of `input`.
    pub fn new(input: R) -> Self {
        let head = Vec::new();
        Self {
            input: Begun { head, input },
            form: Form::Unknown,
        }
    }

    /// Whether the input has turned out to be compressed.
    pub fn is_compressed(&self) -> bool {
        matches!(self.form, Form::Compressed(_))
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.form, Form::Unknown) {
            self.form = match self.input.is_compressed()? {
                // A file may grow: what it is, is known only once it has something.
                None => return Ok(0),
                Some(false) => Form::Plain,
                Some(true) => Form::Compressed(Decompressor::new()?),
            };
        }
        match &mut self.form {
            Form::Compressed(decompressor) => decompressor.read(&mut self.input, buffer),
            _ => self.input.read(buffer),
        }
    }
}

/// An input whose first bytes have been looked at.
struct Begun<R> {
    /// Those of them that are still to be read.
    head: Vec<u8>,
    input: R,
}

impl<R: Read> Begun<R> {
    /// Looks at as many bytes as it takes to know; `None` if there are none. A record begins with
    /// none that a frame may begin with, so for a plain stream this waits for its first byte alone.
    fn is_compressed(&mut self) -> io::Result<Option<bool>> {
        let mut bytes = [0; FRAME.len()];
        while self.head.is_empty() || begins_frame(&self.head) {
            let missing = FRAME.len() - self.head.len();
            match self.input.read(&mut bytes[..missing])? {
                0 => break,
                count => self.head.extend(&bytes[..count]),
            }
        }
        Ok((!self.head.is_empty()).then(|| begins_frame(&self.head)))
    }
}

impl<R: Read> Read for Begun<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            return self.input.read(buffer);
        }
        let count = self.head.as_slice().read(buffer)?;
        self.head.drain(..count);
        Ok(count)
    }
}

/// Whether a frame may begin with `bytes`, of which there are up to four.
fn begins_frame(bytes: &[u8]) -> bool {
    let skippable = |(at, (byte, expected)): (usize, (&u8, u8))| {
        let any = if at == 0 { 0x0f } else { 0 };
        byte | any == expected | any
    };
    FRAME.starts_with(bytes) || bytes.iter().zip(SKIPPABLE).enumerate().all(skippable)
}

struct Decompressor {
    context: DCtx<'static>,
    /// What was read last; from `start` to `end` it is still to be decompressed.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of the compressed input has been decompressed.
    offset: u64,
    /// Where the part of a frame begins that is at `offset`: its header, a block's, what is in a
    /// block; and how much of that part is left.
    part: u64,
    left: usize,
    /// So many bytes the library would like to have next; 0 between two frames.
    wanted: usize,
    /// Whether there may be more output without any more input.
    pending: bool,
}

impl Decompressor {
    fn new() -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(ErrorKind::OutOfMemory)?;
        (context.set_parameter(DParameter::WindowLogMax(WINDOW)))
            .map_err(|code| io::Error::other(zstd_safe::get_error_name(code)))?;
        Ok(Self {
            context,
            chunk: vec![0; CHUNK],
            start: 0,
            end: 0,
            offset: 0,
            part: 0,
            left: 0,
            wanted: 0,
            pending: false,
        })
    }

    /// Decompresses something to `buffer`; reads of `input` only if nothing else is left.
    fn read(&mut self, input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.start == self.end && !self.pending {
                (self.start, self.end) = (0, 0);
                self.end = input.read(&mut self.chunk)?;
                if self.end == 0 && self.wanted == 0 {
                    return Ok(0);
                }
                if self.end == 0 {
                    let text = format!("the compressed input is cut at byte {}", self.offset);
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
                }
            }
            match self.step(buffer)? {
                0 => {}
                count => return Ok(count),
            }
        }
    }

    /// Hands the library one part of a frame at most, and nothing as long as it has output. It would
    /// like to have the header of the next block with each block; but if it fails, it does not tell
    /// what it has decompressed before.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.part = self.offset;
            self.left = match self.wanted {
                0 => FRAME.len(),
                wanted if wanted > BLOCK_HEADER => wanted - BLOCK_HEADER,
                wanted => wanted,
            };
        }
        let count = match self.pending {
            true => 0,
            false => self.left.min(self.end - self.start),
        };
        let piece = &self.chunk[self.start..self.start + count];
        let mut from = InBuffer::around(piece);
        let mut to = OutBuffer::around(buffer);
        let result = self.context.decompress_stream(&mut to, &mut from);
        let (read, written) = (from.pos(), to.pos());
        self.wanted = result.map_err(|code| self.malformed(code))?;
        self.start += read;
        self.left -= read;
        self.offset += read as u64;
        self.pending = written == buffer.len();
        Ok(written)
    }

    fn malformed(&self, code: usize) -> io::Error {
        let is = |kind| zstd_safe::is_error_kind(code, kind);
        let what = if is(ZSTD_ErrorCode::ZSTD_error_prefix_unknown) {
            "this is no frame of zstd".to_owned()
        } else if is(ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) {
            let mib = (1 << WINDOW) >> 20;
            format!(
                "the frame needs a window of more than {mib} MiB: decompress it by zstd -dc --long=31"
            )
        } else {
            zstd_safe::get_error_name(code).to_owned()
        };
        let at = self.part;
        let text = format!("at byte {at} of the compressed input: {what}");
        io::Error::new(ErrorKind::InvalidData, text)
    }
}

#[cfg(test)]
mod tests;
