//! Where the stages' programs are.

use crate::arguments::Invocation;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folders in which programs are looked for, in their order.
pub struct Programs {
    folders: Vec<PathBuf>,
}

impl Programs {
    /// The folder of this very program, then those of PATH.
    pub fn here() -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where systracer itself is")?;
        Ok(Self::new(&own, std::env::var_os("PATH")))
    }

    /// The folder of the program `own`, then those of `path` that are absolute: what is run as
    /// root does not hang on the current directory.
    fn new(own: &Path, path: Option<OsString>) -> Self {
        let path = path.unwrap_or_default();
        let path = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        Self {
            folders: own
                .parent()
                .map(Path::to_owned)
                .into_iter()
                .chain(path)
                .collect(),
        }
    }

    /// A stage with its program.
    pub fn locate(&self, stage: Invocation) -> Result<(Invocation, PathBuf)> {
        let program = self.find(stage.name)?;
        Ok((stage, program))
    }

    /// Stages with their programs.
    pub fn of(&self, stages: Vec<Invocation>) -> Result<Vec<(Invocation, PathBuf)>> {
        stages.into_iter().map(|stage| self.locate(stage)).collect()
    }

    /// The program of that name.
    fn find(&self, name: &str) -> Result<PathBuf> {
        let mut paths = self.folders.iter().map(|folder| folder.join(name));
        match paths.find(|path| path.is_file()) {
            Some(path) => Ok(path),
            None => {
                bail!("there is no {name} beside systracer, nor in PATH: scripts/release builds it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_folder_comes_first_and_relative_ones_never() {
        let path = OsString::from("/usr/bin::bin:.:/bin");
        let programs = Programs::new(Path::new("/opt/systracer/systracer"), Some(path));
        let folders = ["/opt/systracer", "/usr/bin", "/bin"].map(PathBuf::from);
        assert_eq!(programs.folders, folders);
        let programs = Programs::new(Path::new("/opt/systracer/systracer"), None);
        assert_eq!(programs.folders, folders[..1]);
    }

    #[test]
    fn a_program_that_is_nowhere_is_named() {
        let programs = Programs::new(Path::new("/nowhere/systracer"), None);
        let error = programs.find("st-decode").unwrap_err().to_string();
        assert!(error.contains("st-decode"), "{error}");
    }

    #[test]
    fn programs_are_files() {
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        let programs = Programs::new(&own, None);
        assert_eq!(programs.find(name).unwrap(), own);
        let folder = own.parent().unwrap();
        let above = Programs::new(folder, None);
        assert!(
            above
                .find(folder.file_name().unwrap().to_str().unwrap())
                .is_err()
        );
    }
}
