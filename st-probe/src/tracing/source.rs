//! Where the records that wait in the merge come from.

/// A source of records. Of records with equal times, those of the smaller source leave first: a
/// record of the ring buffer tells what happened, and whatever was read of the machine at the same
/// instant was read after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The ring buffer of the CPU of this number.
    Cpu(u32),
    /// The realtime clock: `clock` records.
    Clock,
    /// The census: `process` records.
    Processes,
    /// The mount tables: `mounts` records.
    MountTables,
    /// The walks: `walked` records.
    Walks,
    /// What the kernel did not record: `lost` records.
    Health,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_buffers_come_first_by_cpu() {
        let sources = [
            Source::Cpu(0),
            Source::Cpu(1),
            Source::Cpu(u32::MAX),
            Source::Clock,
            Source::Processes,
            Source::MountTables,
            Source::Walks,
            Source::Health,
        ];
        assert!(sources.is_sorted());
    }
}
