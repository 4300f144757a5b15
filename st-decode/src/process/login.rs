//! Who logged in, in which session: each thread has it from the one that made it, and may set it
//! by its /proc/PID/loginuid, as login(1), sshd(8) and cron(8) do (kernel/audit.c).

use super::{ProcessTable, TaskRecord};
use crate::field::Values;
use st_probe::record::{self, AUDIT_UNSET};
use st_probe::vocabulary::Value;

/// Who logged in. `None`: nobody has, or it is not known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub loginuid: Option<u32>,
    /// The number of the login.
    pub session: Option<u32>,
}

/// A call of audit_set_loginuid() that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// What the thread had before.
    former: Login,
    /// The user that it sets.
    loginuid: Option<u32>,
    /// The number of the last login of all, when the call began.
    last_session: Option<u32>,
}

impl Login {
    /// What a record tells of a thread that has just been made.
    fn read(values: &Values) -> Option<Self> {
        Some(Self {
            loginuid: set(values.u32(Value::Loginuid)?),
            session: set(values.u32(Value::Session)?),
        })
    }
}

impl From<&record::Thread<'_>> for Login {
    fn from(thread: &record::Thread) -> Self {
        Self {
            loginuid: thread.loginuid,
            session: thread.session,
        }
    }
}

impl Setting {
    /// What the thread has once the call has succeeded. `last_session`: the number of the last
    /// login of all then. Each login adds one to that number, so that the login is this one if one
    /// was added; else others have logged in meanwhile, or the number is none.
    fn done(self, last_session: Option<u32>) -> Login {
        let session = last_session.filter(|&last| {
            let before = self.last_session;
            before.is_some_and(|before| before.wrapping_add(1) == last)
        });
        Login {
            loginuid: self.loginuid,
            session: self.loginuid.and(session.and_then(set)),
        }
    }
}

/// A number that is one.
fn set(number: u32) -> Option<u32> {
    (number != AUDIT_UNSET).then_some(number)
}

impl ProcessTable {
    /// A thread begins to set who logged in: until it has, that is not known.
    pub(super) fn set_loginuid(&mut self, record: &TaskRecord) {
        let thread = self.threads.entry(record.tid).or_default();
        thread.setting = Some(Setting {
            former: std::mem::take(&mut thread.login),
            loginuid: record.values.u32(Value::Loginuid).and_then(set),
            last_session: record.values.u32(Value::Session),
        });
    }

    /// It has, or failed.
    pub(super) fn loginuid_set(&mut self, record: &TaskRecord) {
        let thread = self.threads.entry(record.tid).or_default();
        let setting = thread.setting.take();
        let succeeded = record.values.number(Value::Ret) == Some(0);
        match setting {
            Some(setting) if succeeded => {
                thread.login = setting.done(record.values.u32(Value::Session));
            }
            Some(setting) => thread.login = setting.former,
            None if succeeded => thread.login = Login::default(),
            None => {}
        }
    }

    /// Takes what the kernel tells of a new thread, and so of the one that made it, which has the
    /// same.
    pub(super) fn inherit_login(&mut self, record: &TaskRecord) {
        let Some(login) = Login::read(&record.values) else {
            return;
        };
        for tid in [record.subject(), record.tid] {
            if let Some(thread) = self.threads.get_mut(&tid) {
                thread.login = login;
            }
        }
    }

    /// Takes who logged in from what st-probe found of the threads of a process that is known: a
    /// process that began before its parent was found may have executed a program since.
    pub(super) fn add_logins(&mut self, found: &record::Process) {
        for thread in &found.threads {
            let login = Login::from(thread);
            let known = self.threads.get_mut(&thread.tid);
            if let Some(known) = known.filter(|_| login != Login::default()) {
                known.login = login;
            }
        }
    }
}
