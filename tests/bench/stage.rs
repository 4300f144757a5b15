//! Runs one stage over standard input, as its program does but with all privileges and system
//! calls, which valgrind needs:
//!
//! ```text
//! bench-stage decode|pathtree|filter|text|json [EVENTS=PATH...] <INPUT >OUTPUT
//! ```
//!
//! EVENTS=PATH are watches, for `pathtree`; `filter` passes all events. `scripts/bench` counts
//! instructions so. To see which functions of a stage use them:
//!
//! ```text
//! CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release -p systracer-tests --bin bench-stage
//! stage=target/release/bench-stage
//! $stage decode <tests/recordings/6.12.raw >decoded
//! valgrind --tool=callgrind --callgrind-out-file=profile $stage pathtree <decoded >resolved
//! callgrind_annotate --inclusive=yes profile
//! ```
#![deny(unsafe_code)]

use anyhow::{Result, anyhow, bail};
use st_decode::decode::Decoder;
use st_filter::Filter;
use st_format::json::Json;
use st_format::text::Text;
use st_pathtree::pathtree::PathTree;
use st_pathtree::watch::Watch;
use st_probe::stage::{self, Stage};
use std::env;
use std::io;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let stage = args.next().unwrap_or_default();
    let watches: Result<_, _> = args.map(|arg| Watch::parse(arg.as_bytes())).collect();
    let watches = watches.map_err(|error| anyhow!(error))?;
    match stage.as_str() {
        "decode" => run(Decoder::new(Vec::new())),
        "pathtree" => run(PathTree::new(watches, None)),
        "filter" => run(Filter::default()),
        "text" => run(Text::new(false, Vec::new())),
        "json" => run(Json::default()),
        _ => bail!("see the head of tests/bench/stage.rs"),
    }
}

fn run(mut stage: impl Stage) -> Result<()> {
    let mut messages = |message: String| eprintln!("{message}");
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    if !stage::run(&mut stage, input, output, &mut messages)? {
        bail!("the input is not whole");
    }
    Ok(())
}
