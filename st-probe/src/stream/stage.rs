//! The loop that every later stage (all stages after st-probe) runs, its messages and its exit
//! statuses.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done, also when the reader downstream went away |
//! | 1 | failed |
//! | 2 | wrong usage |
//! | 3 | something was lost: with st-format's `--strict` only |
//! | 4 | the input was cut or corrupt; what was readable of it was processed |

use crate::stream::compressed::Plain;
use crate::stream::input::Input;
use crate::stream::record::{End, Header, MAGIC, VERSION};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::Why;
use crate::stream::wire::{self, Reader, Record, RecordCopy};
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

/// Exit status: the stage failed.
pub const FAILED: u8 = 1;
/// Exit status: wrong usage.
pub const USAGE: u8 = 2;
/// Exit status: something was lost, and the user asked for a stream without losses.
pub const LOST: u8 = 3;
/// Exit status: the input was cut or corrupt.
pub const CUT: u8 = 4;

/// So many bytes of output are written at once; fewer may wait for more of them.
pub const LARGE: usize = 256 << 10;

/// Why a record of a known kind could not be processed.
pub type RecordError = wire::Error;

/// What a stage does with records; [`run`] reads its input and writes its output.
pub trait Stage {
    /// The stage's name, as in [`Header::stages`].
    const NAME: &'static str;
    /// The stages that the input must have passed.
    const AFTER: &'static [&'static str];
    /// Whether the input may have passed the same stage before.
    const REPEATABLE: bool = false;
    /// Whether the output is lines of text.
    const LINES: bool = false;

    /// Takes the header of a stream. `record` is the same header, encoded.
    fn begin(&mut self, header: &Header, record: Record, out: &mut Vec<u8>);

    /// Takes a record after the header, and appends the stage's output to `out`, unless
    /// [`Stage::drain`] does.
    ///
    /// The error says why a record of a known kind cannot be read.
    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError>;

    /// Appends to `out` the rest of the output for the last record. One record may cause
    /// output that is many times as long as the whole input, so this appends about [`LARGE`] bytes
    /// in one call. True: there is more output. Whoever pushes records calls this until it
    /// returns false, and only then pushes the next record.
    fn drain(&mut self, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// What was lost, as messages for people, after the end of the input; none, if nothing was
    /// lost.
    fn losses(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the exit status is [`LOST`] if something was lost.
    fn is_strict(&self) -> bool {
        false
    }
}

/// Appends the header to `out` with `stage` added to the stages that the stream has passed.
/// `record` is the same header, encoded.
pub fn pass_header(header: &Header, record: Record, stage: &str, out: &mut Vec<u8>) {
    let mut stages = header.stages.clone();
    stages.push(stage.to_owned());
    let mut copy = RecordCopy::begin(record, out);
    if let Some(entry) = record.entry(b"stages") {
        copy.replace(entry, |_, out| wire::write(&stages, out));
    }
    copy.end::<()>(None);
}

/// Runs a stage from standard input to standard output, after the process has given up the
/// privileges and system calls that it does not need. If `verbose`, messages tell which of them
/// it could not give up.
pub fn main<S: Stage>(stage: &mut S, verbose: bool) -> ExitCode {
    let mut messages = |message: String| say(S::NAME, &message);
    if !S::LINES && io::stdout().is_terminal() {
        messages(to_terminal(S::NAME, S::AFTER));
        return ExitCode::from(USAGE);
    }
    let input = Input::standard();
    crate::stream::interrupt::ignore_first();
    let held = crate::stream::confine::confine();
    if verbose {
        held.into_iter().for_each(&mut messages);
    }
    let output = io::stdout().lock();
    let result = input.and_then(|input| {
        if S::LINES {
            run(stage, input, WholeLines(output), &mut messages)
        } else {
            run(stage, input, output, &mut messages)
        }
    });
    let losses = stage.losses();
    let failed = stage.is_strict() && !losses.is_empty();
    losses.into_iter().for_each(&mut messages);
    match result {
        Ok(true) if failed => ExitCode::from(LOST),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CUT),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            messages(error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

/// The stages that turn st-probe's stream into text, in their order.
const TO_TEXT: [&str; 3] = ["st-decode", "st-pathtree", "st-format"];

/// What the stage `name`, whose input has passed the stages `after`, says instead of writing its
/// binary output to a terminal: where to pipe it.
pub(crate) fn to_terminal(name: &str, after: &[&str]) -> String {
    let passed = |stage: &&str| *stage == name || after.contains(stage);
    let rest: Vec<&str> = (TO_TEXT.into_iter())
        .filter(|stage| !passed(stage))
        .collect();
    format!(
        "standard output is a terminal, the stream is binary: pipe it to {} or a file",
        rest.join(" | ")
    )
}

/// Writes a message for people to standard error in one call, so that a process that is killed
/// meanwhile leaves no part of a line. That standard error is closed is no error: nobody would
/// read of it.
pub fn say(name: &str, message: &str) {
    let mut line = format!("{name}: ");
    for char in message.chars() {
        match char {
            '\'' | '"' | '\\' => line.push(char),
            // A message may quote the input, which must not command a terminal.
            _ => line.extend(char.escape_debug()),
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Writes whole lines, so that a process that is killed meanwhile leaves no part of a line in a
/// pipe.
struct WholeLines<W>(W);

/// So many bytes go into a pipe all together or not at all: PIPE_BUF in pipe(7).
const ATOMIC: usize = 4096;

impl<W: Write> Write for WholeLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = &bytes[..bytes.len().min(ATOMIC)];
        let lines = most.iter().rposition(|&byte| byte == b'\n');
        self.0
            .write(&most[..lines.map_or(most.len(), |last| last + 1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Runs a stage from `input`, which may be compressed, to `output`, and hands messages for people
/// to `say`.
///
/// True: the input was whole. The errors are those of reading `input` and of writing `output`.
pub fn run<S: Stage>(
    stage: &mut S,
    input: impl Read,
    mut output: impl Write,
    say: &mut dyn FnMut(String),
) -> io::Result<bool> {
    let mut input = Plain::new(input);
    let mut reader = Reader::default();
    let mut out = Vec::new();
    let mut state = State {
        begun: false,
        ended: false,
        whole: true,
        unreadable: 0,
        input: "the input",
    };
    let trouble = loop {
        let offset = reader.offset();
        match reader.take() {
            Ok(Some(record)) => {
                if let Err(trouble) = step(stage, &mut state, record, offset, &mut out, say) {
                    break Some(trouble);
                }
                drain(stage, &mut out, &mut output)?;
            }
            // Reading may wait for a long time, and whoever reads the output must not wait
            // as long for what is ready.
            Ok(None) => {
                output.write_all(&out)?;
                output.flush()?;
                out.clear();
                match reader.fill(&mut input) {
                    Ok(true) if input.is_compressed() => {
                        state.input = "the decompressed input";
                    }
                    Ok(true) => {}
                    Ok(false) => break None,
                    Err(error) if is_of_the_stream(error.kind()) => {
                        // Also after an end record: what follows it may be more of the stream.
                        state.ended = false;
                        break Some(format!("{error}; the rest is left out"));
                    }
                    Err(error) => return Err(with("cannot read standard input", error)),
                }
            }
            Err(malformed) if !state.begun => {
                break Some(format!(
                    "{malformed}: standard input must come from {}",
                    S::AFTER.join(" | ")
                ));
            }
            Err(malformed) => {
                let input = state.input;
                break Some(format!(
                    "at byte {offset} of {input}: {malformed}; the rest is left out"
                ));
            }
        }
    };
    match trouble {
        Some(trouble) => say(trouble),
        None if state.ended => {}
        None if reader.offset() == 0 && reader.pending() == 0 => {
            say("no input: the stage before it wrote nothing".into())
        }
        None => say(format!(
            "{} is cut at byte {}: it has no end record",
            state.input,
            reader.offset() + reader.pending() as u64
        )),
    }
    if state.unreadable > 1 {
        say(format!(
            "{} records in all could not be read and were left out",
            state.unreadable
        ));
    }
    if !state.ended {
        state.whole = false;
        let end = End {
            ts: Monotonic::default(),
            records: 0,
            lost: 0,
            why: Why::Cut,
        };
        let mut record = Vec::new();
        wire::write(&end, &mut record);
        Record::new(&record)
            .map(|record| stage.push(record, &mut out))
            .expect("a record of our own is one")
            .expect("and is readable");
        drain(stage, &mut out, &mut output)?;
    }
    output.write_all(&out)?;
    output.flush()?;
    Ok(state.whole && state.unreadable == 0)
}

/// Whether an error tells that the stream is cut or corrupt, and not that reading it failed.
fn is_of_the_stream(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

/// Drains the stage, and writes `out` whenever it has [`LARGE`] bytes.
fn drain<S: Stage>(stage: &mut S, out: &mut Vec<u8>, output: &mut impl Write) -> io::Result<()> {
    loop {
        let more = stage.drain(out);
        if more || out.len() >= LARGE {
            output.write_all(out)?;
            out.clear();
        }
        if !more {
            return Ok(());
        }
    }
}

/// What [`run`] has read so far.
struct State {
    /// A header.
    begun: bool,
    /// An end, and nothing after it.
    ended: bool,
    /// No end that another stage put where its own input was cut.
    whole: bool,
    /// So many records that could not be read.
    unreadable: u64,
    /// What the offsets of records are counted in.
    input: &'static str,
}

/// Hands one record to the stage. An error says why the rest of the input is useless.
fn step<S: Stage>(
    stage: &mut S,
    state: &mut State,
    record: Record,
    offset: u64,
    out: &mut Vec<u8>,
    say: &mut dyn FnMut(String),
) -> Result<(), String> {
    let kind = record.kind();
    let result = match kind {
        "header" => {
            let header = record
                .read::<Header>()
                .map_err(|error| format!("unreadable header: {error}"))?;
            check_header::<S>(&header)?;
            state.begun = true;
            state.ended = false;
            stage.begin(&header, record, out);
            Ok(())
        }
        "end" => record.read::<End>().and_then(|end| {
            state.ended = true;
            state.whole &= end.why != Why::Cut;
            stage.push(record, out)
        }),
        _ if !state.begun => {
            return Err(format!(
                "the stream does not begin with a header but with '{kind}': was its beginning cut off?"
            ));
        }
        _ => {
            state.ended = false;
            stage.push(record, out)
        }
    };
    if let Err(error) = result {
        state.unreadable += 1;
        if state.unreadable == 1 {
            say(format!(
                "the '{kind}' record at byte {offset} of {} is left out: {error}",
                state.input
            ));
        }
    }
    Ok(())
}

/// Checks that the stage can take the stream. The error says what the user can do.
fn check_header<S: Stage>(header: &Header) -> Result<(), String> {
    if header.magic != MAGIC {
        return Err("this is not a SysTracer stream".into());
    }
    if header.version > VERSION {
        return Err(format!(
            "the stream has format version {}, this {} knows {VERSION}: use a newer one",
            header.version,
            S::NAME
        ));
    }
    let passed = header.stages.join(" | ");
    let has_passed = |name: &str| header.stages.iter().any(|stage| stage == name);
    let mut missing = S::AFTER.to_vec();
    missing.retain(|name| !has_passed(name));
    if !missing.is_empty() {
        return Err(format!(
            "the input comes from {passed}: put {} before {}",
            missing.join(" | "),
            S::NAME
        ));
    }
    if !S::REPEATABLE && has_passed(S::NAME) {
        return Err(format!(
            "the input comes from {passed}: it has passed {} already",
            S::NAME
        ));
    }
    Ok(())
}

fn with(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_output_is_piped_to_the_stages_that_are_left() {
        for (name, after, rest) in [
            ("st-probe", &[][..], "st-decode | st-pathtree | st-format"),
            ("st-decode", &["st-probe"], "st-pathtree | st-format"),
            ("st-pathtree", &["st-probe", "st-decode"], "st-format"),
            (
                "st-filter",
                &["st-probe", "st-decode", "st-pathtree"],
                "st-format",
            ),
        ] {
            let said = to_terminal(name, after);
            assert!(said.contains(&format!("pipe it to {rest} or")), "{said}");
        }
    }

    #[test]
    fn a_pipe_gets_whole_lines() {
        struct Pipe(Vec<Vec<u8>>);
        impl Write for Pipe {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut text = Vec::new();
        for length in [10, 4000, 90, 4095, 1, 3000, 1500] {
            text.extend(vec![b'a'; length]);
            text.push(b'\n');
        }
        let mut pipe = WholeLines(Pipe(Vec::new()));
        pipe.write_all(&text).unwrap();
        assert_eq!(pipe.0.0.concat(), text);
        let whole = |piece: &Vec<u8>| piece.len() <= ATOMIC && piece.ends_with(b"\n");
        assert!(pipe.0.0.iter().all(whole));
    }
}
