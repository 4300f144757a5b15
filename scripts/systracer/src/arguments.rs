//! What each stage is told.

use crate::options::Options;
use clap::ValueEnum;
use st_probe::vocabulary::Event;
use std::ffi::OsString;
use std::path::Path;

/// A stage and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The name of its program.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The variables of systracer's environment that it gets.
    pub environment: Environment,
}

/// What a stage gets of systracer's environment.
#[derive(Debug, PartialEq, Eq)]
pub enum Environment {
    /// All of it: a command that it executes is to have it.
    Whole,
    /// These variables.
    Only(&'static [&'static str]),
}

impl Invocation {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            arguments: Vec::new(),
            environment: Environment::Only(&[]),
        }
    }

    fn flag(mut self, name: &str, is_given: bool) -> Self {
        if is_given {
            self.arguments.push(name.into());
        }
        self
    }

    fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.arguments.extend([name.into(), value.into()]);
        self
    }
}

/// st-probe. `questions` is the pipe through which st-pathtree asks it, where it does.
pub fn probe(options: &Options, questions: Option<&Path>) -> Invocation {
    let mut stage = Invocation::new("st-probe")
        .flag("--die-with-parent", true)
        .option("--event", events(options));
    for path in options.snapshots() {
        stage = stage.option("--snapshot", path);
    }
    if let Some(path) = questions {
        stage = stage.option("--answer", path);
    }
    if let Some(size) = options.buffer_size {
        stage = stage.option("--buffer-size", size.to_string());
    }
    if !options.command.is_empty() {
        stage.environment = Environment::Whole;
        stage.arguments.push("--".into());
        stage.arguments.extend_from_slice(&options.command);
    }
    stage
}

/// The stages after st-probe, in their order.
pub fn later(options: &Options, questions: Option<&Path>) -> Vec<Invocation> {
    let stage = |name| Invocation::new(name).flag("--verbose", options.verbose);
    let decode = stage("st-decode")
        .flag("--exec", options.exec)
        .flag("--exit", options.exit);
    let mut pathtree = stage("st-pathtree");
    for watch in &options.watch {
        pathtree = pathtree.option("--watch", &watch.value);
    }
    if let Some(path) = questions {
        pathtree = pathtree.option("--ask", path);
    }
    let mut stages = vec![decode, pathtree];
    // Who is not traced is left out where that can be told, in a replay as when it was recorded.
    // Only a recording may hold events that were not asked for.
    if options.replay.is_some() {
        let filter = stage("st-filter").option("--event", events(options));
        stages.push(filter.option("--tree", "command"));
    } else if !options.command.is_empty() {
        stages.push(stage("st-filter").option("--tree", "command"));
    }
    let mut format = stage("st-format")
        .flag("--strict", options.strict)
        .flag("--layers", options.layers);
    format.environment = Environment::Only(&["TERM", "NO_COLOR", "TZ"]);
    if options.json {
        format = format.option("--output", "json");
    }
    if let Some(output) = options.output.and_then(|output| output.to_possible_value()) {
        format = format.option("--output", output.get_name());
    }
    if options.summary {
        format = format.option("--output", "summary");
    }
    if let Some(every) = options.every {
        format = format.option("--every", every.to_string());
    }
    if let Some(template) = &options.template {
        format = format.option("--template", template);
    }
    if let Some(time) = options.time.and_then(|time| time.to_possible_value()) {
        format = format.option("--time", time.get_name());
    }
    if !options.show.is_empty() {
        let shown = options.show.iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<_> = shown.map(|value| value.get_name().to_owned()).collect();
        format = format.option("--show", names.join(","));
    }
    stages.push(format);
    stages
}

fn events(options: &Options) -> String {
    let names: Vec<_> = options.events().into_iter().map(Event::name).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    fn options(words: &str) -> Options {
        let words = ["systracer"].into_iter().chain(words.split_whitespace());
        options::parse(words.map(OsString::from)).unwrap()
    }

    /// The pipeline as one would type it.
    fn line(words: &str) -> String {
        let options = options(words);
        let pipe = (!options.snapshots().is_empty()).then_some(Path::new("PIPE"));
        let mut stages = later(&options, pipe);
        if options.replay.is_none() {
            stages.insert(0, probe(&options, pipe));
        }
        let typed = |stage: &Invocation| {
            let words = stage.arguments.iter().map(|word| word.to_str().unwrap());
            [stage.name]
                .into_iter()
                .chain(words)
                .collect::<Vec<_>>()
                .join(" ")
        };
        stages.iter().map(typed).collect::<Vec<_>>().join(" | ")
    }

    const FILES: &str = "create,mkdir,mknod,delete,rmdir,rename,attrib,symlink,link";

    #[test]
    fn the_stages_are_told_what_they_need() {
        for (words, expected) in [
            (
                "--connect",
                "st-probe --die-with-parent --event connect | st-decode | st-pathtree | st-format"
                    .to_owned(),
            ),
            (
                "--watch all=/ --watch none=/proc --exec --layers --show uid,exe --buffer-size 64",
                format!(
                    "st-probe --die-with-parent --event {FILES},exec --snapshot / --answer PIPE \
                     --buffer-size 64 | st-decode --exec | st-pathtree --watch all=/ \
                     --watch none=/proc --ask PIPE | st-format --layers --show uid,exe"
                ),
            ),
            (
                "--listen --json --strict --verbose -- make -C /x",
                "st-probe --die-with-parent --event listen,unlisten -- make -C /x | \
                 st-decode --verbose | st-pathtree --verbose | \
                 st-filter --verbose --tree command | \
                 st-format --verbose --strict --output json"
                    .to_owned(),
            ),
            (
                "--replay f --exec --summary --every 60",
                "st-decode --exec | st-pathtree | st-filter --event exec --tree command | \
                 st-format --output summary --every 60"
                    .to_owned(),
            ),
            (
                "--replay f --exec --output csv",
                "st-decode --exec | st-pathtree | st-filter --event exec --tree command | \
                 st-format --output csv"
                    .to_owned(),
            ),
            (
                "--replay f --exec --layers --time local --template {pid}:{path}",
                "st-decode --exec | st-pathtree | st-filter --event exec --tree command | \
                 st-format --layers --template {pid}:{path} --time local"
                    .to_owned(),
            ),
            (
                "--replay f --exit --connect",
                "st-decode --exit | st-pathtree | st-filter --event connect,exit --tree command | \
                 st-format"
                    .to_owned(),
            ),
        ] {
            assert_eq!(line(words), expected, "{words}");
        }
    }

    #[test]
    fn only_a_command_gets_the_whole_environment() {
        let environment = |words| probe(&options(words), None).environment;
        assert_eq!(environment("--connect"), Environment::Only(&[]));
        assert_eq!(environment("--connect -- make"), Environment::Whole);
        for stage in later(&options("-- make"), None) {
            assert_ne!(stage.environment, Environment::Whole, "{}", stage.name);
        }
    }
}
