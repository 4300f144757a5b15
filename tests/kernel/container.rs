//! Containers: what a program in one does is reported with the host's path, where the host
//! has one: for its root (an overlay) the merged directory, for a volume the directory that
//! it is. What only the container's mount namespace shows, its tmpfs, is reported with the
//! path there and the namespace.
//!
//! The container is podman's. Its image holds this very program and nothing else, which
//! works inside and prints the events that it expects, with the paths as it sees them.

use anyhow::{Context, Result, bail};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compare::{self, Got};
use crate::fs::{Kind, device_of, run};
use crate::inside::{DONE, GATE, MARK, OPTION, READY, VOLUME, deserialize};
use crate::log::Expected;
use crate::program::Program;
use crate::trace::{Trace, watch};
use crate::{Case, Report};

/// Where podman keeps images and the containers' layers.
pub const STORAGE: &str = "/var/lib/containers/storage";
/// The image that holds this program.
pub const IMAGE: &str = "localhost/kernel-tests";

/// The directories that the container works in, as it sees them: its root, which is an
/// overlay, [`VOLUME`] and a tmpfs.
const ROOT: &str = "/";
const TMPFS: &str = "/tmpfs";

/// How many problems of a comparison are shown at its beginning, where what is missing
/// stands, and as many at its end, where the extra is.
const SHOWN: usize = 25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Containers run before tracing begins.
    Before,
    /// They come up while it is traced.
    While,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// `/`.
    Everything,
    /// The storage and the volumes: not what only the container shows.
    Host,
}

/// What a case does.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    when: When,
    watched: Watched,
    /// Where each container works.
    dirs: &'static [&'static str],
    /// How many containers there are.
    count: usize,
}

const ROWS: [Row; 5] = [
    Row {
        name: "podman",
        when: When::While,
        watched: Watched::Everything,
        dirs: &[ROOT, VOLUME],
        count: 1,
    },
    Row {
        name: "podman-before",
        when: When::Before,
        watched: Watched::Everything,
        dirs: &[ROOT, VOLUME],
        count: 1,
    },
    Row {
        name: "podman-watches",
        when: When::While,
        watched: Watched::Host,
        dirs: &[ROOT, VOLUME, TMPFS],
        count: 1,
    },
    Row {
        name: "podman-tmpfs-before",
        when: When::Before,
        watched: Watched::Everything,
        dirs: &[TMPFS],
        count: 1,
    },
    Row {
        // The same paths in two namespaces.
        name: "podman-two",
        when: When::While,
        watched: Watched::Everything,
        dirs: &[ROOT, VOLUME, TMPFS],
        count: 2,
    },
];

/// The cases.
pub fn cases() -> Vec<Case> {
    ROWS.into_iter()
        .map(|row| {
            Case::new(
                format!("container/{}", row.name),
                move |report: &mut Report| contained(report, row),
            )
        })
        .collect()
}

/// Lets the containers work, and compares.
fn contained(report: &mut Report, row: Row) -> Result<()> {
    make_image()?;
    let volumes = (0..row.count)
        .map(|number| Ok(Kind::Ext4.place(&format!("{}-{number}", row.name))?.dir))
        .collect::<Result<Vec<_>>>()?;
    let mut watched: Vec<&Path> = volumes.iter().map(PathBuf::as_path).collect();
    match row.watched {
        Watched::Everything => watched = vec![Path::new("/")],
        Watched::Host => watched.push(Path::new(STORAGE)),
    }
    let watches: Vec<_> = watched.iter().flat_map(|dir| watch("all", dir)).collect();
    let recording = Path::new("/var/tmp").join(row.name);
    let mut arguments = vec!["--json".into(), "--record".into(), recording.clone().into()];
    arguments.extend(watches.clone());

    let start = || -> Result<Vec<_>> {
        let containers = volumes.iter().map(|dir| Container::start(dir, row.dirs));
        containers.collect()
    };
    let trace = || -> Result<_> {
        let trace = Trace::start(arguments)?;
        trace.wait_for_snapshot(&recording)?;
        Ok(trace)
    };
    let (trace, containers) = match row.when {
        When::Before => {
            let containers = start()?;
            (trace()?, containers)
        }
        When::While => (trace()?, start()?),
    };
    for container in &containers {
        container.open_gate()?;
    }
    for container in &containers {
        container.await_line(DONE)?;
    }
    let got = trace.events(&mut report.problems)?;
    let (mut expected, mut namespaces) = (Vec::new(), Vec::new());
    for container in containers {
        let view = container.view()?;
        namespaces.push(view.namespace);
        for event in container.finish()? {
            view.add(event, &mut expected)?;
        }
    }
    check(report, &expected, got);
    check_text(report, &recording, &watches, &expected, &namespaces)
}

/// Compares what the containers did with what was reported of that. Of nothing else that was
/// reported, as they were made and removed, the path is in doubt.
fn check(report: &mut Report, expected: &[Expected], mut got: Vec<Got>) {
    let doubtful = got.iter().filter(|event| {
        let mut statuses = ["path_status", "old_path_status"].into_iter();
        statuses.any(|name| *event.get(name) == "ambiguous")
    });
    let doubtful = doubtful.map(|event| format!("in doubt: {:?}", event.fields));
    report.problems.extend(doubtful.take(SHOWN));
    got.retain(|event| {
        let paths = ["path", "old_path"].map(|name| event.get(name).as_str());
        paths.into_iter().flatten().any(|path| path.contains(MARK))
    });
    if !got.is_empty() {
        report.notes.push(compare::count(&got));
    }
    let mut problems = Vec::new();
    compare::compare(expected, &got, &mut problems);
    if problems.len() > 2 * SHOWN {
        let left_out = SHOWN..problems.len() - SHOWN;
        let count = format!("... {} more ...", left_out.len());
        problems.splice(left_out, [count]);
    }
    report.problems.extend(problems);
}

/// Shown as text, the events that only a container's namespace shows, and no others, name
/// that namespace.
fn check_text(
    report: &mut Report,
    recording: &Path,
    watches: &[OsString],
    expected: &[Expected],
    namespaces: &[u64],
) -> Result<()> {
    let output = Command::new("systracer")
        .arg("--replay")
        .arg(recording)
        .args(watches)
        .output()?;
    fs::remove_file(recording)?;
    let text = String::from_utf8_lossy(&output.stdout);
    for namespace in namespaces {
        let has = |event: &&Expected| event.fields.get("mnt_ns") == Some(&(*namespace).into());
        let meant = expected.iter().filter(has).count();
        let number = namespace.to_string();
        let mut lines = text.lines().filter(|line| line.contains(MARK));
        let shown = lines.clone().filter(|line| line.contains(&number)).count();
        if shown != meant {
            report.problems.push(format!(
                "the text names the namespace {number} in {shown} lines, expected in {meant}; \
                 for example: {}",
                lines
                    .find(|line| line.contains(&number) == (shown > meant))
                    .unwrap_or("none")
            ));
        }
    }
    Ok(())
}

/// Makes the image, if it is not there yet.
pub fn make_image() -> Result<()> {
    if podman()
        .args(["image", "exists", IMAGE])
        .status()?
        .success()
    {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let (dir, name) = program
        .parent()
        .zip(program.file_name())
        .context("this program has no path")?;
    let tar = "/var/tmp/kernel-tests.tar";
    run(Command::new("tar")
        .args(["-cf", tar, "-C"])
        .arg(dir)
        .arg(name))?;
    run(podman().args(["import", "--quiet", tar, IMAGE]))
}

/// podman(1), with that storage.
pub fn podman() -> Command {
    let mut command = Command::new("podman");
    command.args(["--root", STORAGE]);
    command
}

/// A running container. Dropping it removes it.
struct Container {
    name: String,
    volume: PathBuf,
    gate: File,
    program: Option<Program>,
}

impl Container {
    /// Starts one that is named like its volume, and waits until it is ready to work in `dirs`.
    fn start(volume: &Path, dirs: &[&str]) -> Result<Self> {
        let name = volume.file_name().context("a name")?.to_string_lossy();
        let gate = volume.join(GATE);
        mkfifo(&gate, Mode::S_IRUSR)?;
        // Open at both ends, so that neither side waits for the other to open it.
        let gate = File::options().read(true).write(true).open(gate)?;
        let mut command = podman();
        command
            .args(["run", "--pull=never", "--network=none", "--name", &name])
            .arg(format!("--volume={}:{VOLUME}", volume.display()))
            .arg(format!("--tmpfs={TMPFS}"))
            .args([IMAGE, "/kernel-tests", OPTION])
            .args(dirs);
        let container = Self {
            name: name.into_owned(),
            volume: volume.to_owned(),
            gate,
            program: Some(Program::start(&mut command)?),
        };
        container.await_line(READY)?;
        Ok(container)
    }

    fn program(&self) -> &Program {
        self.program.as_ref().expect("it has not finished")
    }

    /// Lets it take one more step.
    fn open_gate(&self) -> Result<()> {
        Ok((&self.gate).write_all(b"\n")?)
    }

    fn await_line(&self, line: &str) -> Result<()> {
        self.program().wait_out(format!("{line}\n").as_bytes())
    }

    /// How the host sees it.
    fn view(&self) -> Result<View> {
        let format =
            "{{.Id}} {{.State.Pid}} {{.GraphDriver.Data.UpperDir}} {{.GraphDriver.Data.MergedDir}}";
        let output = podman()
            .args(["container", "inspect", "--format", format, &self.name])
            .output()?;
        let output = String::from_utf8(output.stdout)?;
        let [id, pid, upper, merged] = output.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("podman inspect printed: {output:?}");
        };
        Ok(View {
            id: id.to_owned(),
            pid: pid.parse()?,
            namespace: fs::metadata(format!("/proc/{pid}/ns/mnt"))?.ino(),
            upper: upper.into(),
            upper_device: device_of(Path::new(upper))?,
            merged: merged.into(),
            volume: self.volume.clone(),
        })
    }

    /// Lets it end, and returns the events that it expects.
    fn finish(mut self) -> Result<Vec<Expected>> {
        self.open_gate()?;
        let output = self.program.take().expect("it ends once").finish()?;
        if !output.status.success() {
            bail!("{} ended: {}: {}", self.name, output.status, output.err);
        }
        String::from_utf8(output.out)?
            .lines()
            .filter(|line| ![READY, DONE].contains(line))
            .map(deserialize)
            .collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = podman()
            .args(["rm", "--force", "--time=0", &self.name])
            .output();
    }
}

/// What the host has of a container.
struct View {
    /// Podman's name for it.
    id: String,
    pid: i32,
    /// The inode number of its mount namespace.
    namespace: u64,
    /// The upper layer of its root ...
    upper: PathBuf,
    upper_device: String,
    /// ... and where that is mounted, all layers together.
    merged: PathBuf,
    volume: PathBuf,
}

impl View {
    /// Adds what is to be reported where the container expects an event.
    fn add(&self, mut event: Expected, expected: &mut Vec<Expected>) -> Result<()> {
        event.pid = Some(self.pid);
        event.tid = self.pid;
        event
            .who
            .insert("container".into(), self.id.as_str().into());
        let exe = self.merged.join("kernel-tests");
        event.who.insert("exe".into(), exe.to_string_lossy().into());
        let path = PathBuf::from(event.fields["path"].as_str().context("a path")?);
        if path.starts_with(VOLUME) {
            move_paths(&mut event, VOLUME, &self.volume)?;
        } else if path.starts_with(TMPFS) {
            event.fields.insert("mnt_ns".into(), self.namespace.into());
        } else {
            // What the overlay is asked for, and what it does to its upper layer for that.
            let mut layer = event.clone();
            move_paths(&mut layer, ROOT, &self.upper)?;
            layer
                .fields
                .insert("dev".into(), self.upper_device.as_str().into());
            move_paths(&mut event, ROOT, &self.merged)?;
            event.fields.remove("ino");
            event.optional.push("ino");
            compare::is_layer_of(&mut layer, Some(&event));
            expected.extend([event, layer]);
            return Ok(());
        }
        expected.push(event);
        Ok(())
    }
}

/// Turns paths below `from`, as the container sees it, into the host's.
fn move_paths(event: &mut Expected, from: &str, to: &Path) -> Result<()> {
    for name in ["path", "old_path"] {
        if let Some(value) = event.fields.get_mut(name) {
            let path = Path::new(value.as_str().context("a path")?).strip_prefix(from)?;
            *value = to.join(path).to_string_lossy().into();
        }
    }
    Ok(())
}
