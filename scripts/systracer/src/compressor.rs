//! Writes to a file, compressed by zstd, so that what was written can soon be read.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::time::{Duration, Instant};
use zstd_safe::zstd_sys::ZSTD_EndDirective as Then;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, Strategy};

/// How long bytes may wait to be compressed together with later ones: what a crash may cost.
const PATIENCE: Duration = Duration::from_secs(1);

/// A frame ends after so many bytes: then its checksum tells a reader whether it is right. To end
/// one each second, in place of a flush, would make a recording larger by a tenth, and that of an
/// idle machine by much more.
const FRAME: usize = 16 << 20;

/// What the library does to find what is repeated. Of a recording of 196,188 raw records in 149
/// seconds, 26.75 MB, these make 3.00 MB in 0.18 s of CPU; level 1 makes 3.27 MB in 0.04 s, level 6
/// 3.05 MB in 0.20 s, level 13 2.88 MB in 1.1 s. A larger window helps little, and whoever reads
/// has to keep it in memory.
const PARAMETERS: [CParameter; 7] = [
    CParameter::CompressionLevel(5),
    CParameter::WindowLog(19),
    CParameter::HashLog(16),
    CParameter::SearchLog(4),
    CParameter::MinMatch(6),
    CParameter::Strategy(Strategy::ZSTD_lazy),
    CParameter::ChecksumFlag(true),
];

/// A file that is written compressed, in the frames that [`st_probe::compressed`] reads.
///
/// After [`PATIENCE`] whatever was written can be read, though its frame goes on: the block that it
/// is in ends then, if [`Compressor::flush_if_due`] is called in time.
pub struct Compressor {
    file: File,
    context: CCtx<'static>,
    /// What the library has given out last.
    compressed: Vec<u8>,
    /// Since when there is something that the file cannot give back yet.
    since: Option<Instant>,
    /// So many bytes have been written since the last frame ended.
    frame: usize,
}

impl Compressor {
    /// Writes to `file`.
    pub fn new(file: File) -> io::Result<Self> {
        let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        for parameter in PARAMETERS {
            context.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self {
            file,
            context,
            compressed: Vec::with_capacity(CCtx::out_size()),
            since: None,
            frame: 0,
        })
    }

    /// Writes `bytes`; the file may get them later.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.since.get_or_insert_with(Instant::now);
        self.frame += bytes.len();
        self.compress(bytes, Then::ZSTD_e_continue)?;
        if self.frame < FRAME {
            return Ok(());
        }
        self.finish()
    }

    /// How long to wait before [`Compressor::flush_if_due`] is called; without an end if there is
    /// nothing to be flushed.
    pub fn patience(&self) -> Duration {
        (self.since).map_or(Duration::MAX, |since| {
            PATIENCE.saturating_sub(since.elapsed())
        })
    }

    /// Writes to the file what has waited for long enough.
    pub fn flush_if_due(&mut self) -> io::Result<()> {
        if !self.patience().is_zero() {
            return Ok(());
        }
        self.since = None;
        self.compress(&[], Then::ZSTD_e_flush)
    }

    /// Writes to the file all that has waited, and ends the frame.
    pub fn finish(&mut self) -> io::Result<()> {
        self.since = None;
        match mem::take(&mut self.frame) {
            0 => Ok(()),
            _ => self.compress(&[], Then::ZSTD_e_end),
        }
    }

    /// Hands `bytes` to the library, and to the file what that gives out.
    fn compress(&mut self, bytes: &[u8], then: Then) -> io::Result<()> {
        let mut from = InBuffer::around(bytes);
        loop {
            self.compressed.clear();
            let mut to = OutBuffer::around(&mut self.compressed);
            let left = (self.context)
                .compress_stream2(&mut to, &mut from, then)
                .map_err(failed)?;
            self.file.write_all(&self.compressed)?;
            let taken = from.pos() == bytes.len();
            if taken && (left == 0 || then == Then::ZSTD_e_continue) {
                return Ok(());
            }
        }
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}
