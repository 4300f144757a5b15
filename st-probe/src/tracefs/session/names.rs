//! The names above a file's own, where they are in records of their own: when they are recorded.

use super::Session;
use crate::kernel::hooks::{HookRow, hooks};
use crate::stream::vocabulary::Subject;
use anyhow::Result;

impl Session {
    /// Lets the records of names begin, and lets the kernel itself begin them again, as soon as a
    /// record tells of something that later stages may not know: a trigger switches them on within
    /// the call that is recorded (Documentation/trace/events.rst, "Event triggers").
    pub fn arm_names(&self) -> Result<()> {
        let names: Vec<HookRow> = self.names().collect();
        for hook in hooks().filter(|hook| self.is_defined(hook)) {
            let place = self.instance(&format!("{}/trigger", self.place(hook)));
            let of_all = hook.doubt().map(|condition| (None, condition));
            let of_one = (hook.needs_names()).map(|(event, condition)| (Some(event), condition));
            for (event, condition) in of_all.into_iter().chain(of_one) {
                let is_concerned = |names: &&HookRow| {
                    event.is_none_or(|event| names.subject == Subject::Event(event))
                };
                for names in names.iter().filter(is_concerned) {
                    let mut trigger = format!("enable_event:{}:{}", self.name, names.name());
                    if !condition.is_empty() {
                        trigger += &format!(" if {condition}");
                    }
                    self.tracefs.write(&place, &trigger)?;
                }
            }
        }
        self.switch_names("1")
    }

    /// Lets the records of names begin again.
    pub fn record_names(&self) -> Result<()> {
        self.switch_names("1")
    }

    /// Lets no more records of names begin, until something switches them on again: see
    /// [`Session::arm_names`].
    pub fn leave_names_out(&self) -> Result<()> {
        self.switch_names("0")
    }

    fn switch_names(&self, to: &str) -> Result<()> {
        for names in self.names() {
            let place = self.instance(&self.place(&names));
            self.tracefs.write(place.join("enable"), to)?;
        }
        Ok(())
    }

    /// The hooks in force that have names alone.
    fn names(&self) -> impl Iterator<Item = HookRow> {
        let names = hooks().filter_map(HookRow::names_row);
        names.filter(|names| self.is_defined(names))
    }
}
