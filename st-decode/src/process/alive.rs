//! Processes that st-probe found alive.

use super::cgroup::Cgroups;
use super::login::Login;
use super::program::{ImageFile, Program};
use super::{PidNamespace, ProcessState, ProcessTable, ThreadState};
use st_probe::record;
use std::rc::Rc;

impl ProcessTable {
    /// Takes a process that st-probe found alive.
    pub fn add_alive(&mut self, found: &record::Process) {
        // The task hooks have told more exactly of a process that began meanwhile.
        if self.is_fully_known(found.pid) {
            self.add_logins(found);
            return;
        }
        for thread in &found.threads {
            let state = ThreadState {
                pid: Some(found.pid),
                comm: Some(thread.comm.to_vec()),
                ids: thread.ids,
                login: Login::from(thread),
                setting: None,
                ended: false,
                told: None,
            };
            self.changes_as_ancestor(thread.tid);
            self.threads.insert(thread.tid, state);
        }
        let mut process = ProcessState {
            start: found.start,
            ..ProcessState::default()
        };
        if let Some(inode) = found.pid_ns {
            process.pid_namespace = PidNamespace::Inode(inode);
            if found.first {
                self.inits.insert(inode, found.pid);
            }
        }
        let cgroups = found.cgroups.iter();
        let paths = cgroups.map(|cgroup| (cgroup.hierarchy, cgroup.path.to_vec()));
        process.cgroups = Cgroups::new(paths.collect());
        let mut program = Program {
            argv_cut: found.argv_cut,
            ..Program::default()
        };
        if let Some(path) = &found.exe {
            program.image = Some(self.load(ImageFile::Path {
                path: path.to_vec(),
                deleted: found.exe_deleted,
            }));
        }
        if let Some(argv) = &found.argv {
            program.argv = Some(argv.iter().map(|word| word.to_vec()).collect());
        }
        process.program = Some(Rc::new(program));
        self.insert(found.pid, process, found.ppid);
    }

    /// Whether nothing of a process is missing that st-probe could find.
    fn is_fully_known(&self, pid: i32) -> bool {
        let leader = self.threads.get(&pid);
        let process = self.processes.get(&pid);
        leader.is_some_and(|leader| leader.ids.is_some())
            && process.is_some_and(|process| !process.ended && process.program.is_some())
    }
}
