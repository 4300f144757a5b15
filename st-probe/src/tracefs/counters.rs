//! What the kernel counts of the ring buffer and of the probes, as text in tracefs. Pure.

/// What the kernel counts of one CPU's ring buffer: kernel/trace/trace.c, tracing_stats_read
/// (Linux 6.12).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Records that later records have overwritten.
    pub overrun: u64,
    /// Records that the kernel could not reserve room for.
    pub dropped: u64,
}

impl Statistics {
    /// Parses `per_cpu/cpuN/stats`. A counter that is not there is 0.
    pub fn parse(text: &str) -> Self {
        Self {
            overrun: counter(text, "overrun"),
            dropped: counter(text, "commit overrun") + counter(text, "dropped events"),
        }
    }
}

fn counter(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    let value = lines.find(|line| line.0 == name);
    value.and_then(|line| line.1.parse().ok()).unwrap_or(0)
}

/// How often the kernel did not enter a probe, the probes of all owners together: the sum of the
/// last column of `kprobe_profile` (kernel/trace/trace_kprobe.c, probes_profile_seq_show).
pub fn all_misses(profile: &str) -> u64 {
    profile.lines().filter_map(misses_of_line).sum()
}

/// The same of each of `wanted`, 0 if it is not there. `profile` names no groups, but has the order
/// of `probes`, which are GROUP/EVENT: `None` if one of the two has more lines than the other.
pub fn misses(profile: &str, probes: &[String], wanted: &[String]) -> Option<Vec<u64>> {
    let counts: Vec<_> = profile.lines().map(misses_of_line).collect();
    if counts.len() != probes.len() {
        return None;
    }
    let misses = wanted.iter().map(|probe| {
        let line = probes.iter().position(|other| other == probe)?;
        counts[line]
    });
    Some(misses.map(Option::unwrap_or_default).collect())
}

/// The last column of a line of `kprobe_profile`.
fn misses_of_line(line: &str) -> Option<u64> {
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statistics() {
        let text = "entries: 5\noverrun: 7\ncommit overrun: 1\nbytes: 9\n\
                    oldest event ts: 1.5\nnow ts: 2.5\ndropped events: 2\nread events: 3\n";
        let expected = Statistics {
            overrun: 7,
            dropped: 3,
        };
        assert_eq!(Statistics::parse(text), expected);
        assert_eq!(Statistics::parse("garbage"), Statistics::default());
    }

    #[test]
    fn finds_a_probe_in_the_profile_by_its_place() {
        // Two groups have a probe of the same name.
        let profile = "  open    12    0\n  mkdir    7    3\n  mkdir    1    4\n";
        let probes = ["theirs/open", "theirs/mkdir", "ours/mkdir"].map(String::from);
        let wanted = ["ours/mkdir", "ours/gone"].map(String::from);
        assert_eq!(all_misses(profile), 7);
        assert_eq!(misses(profile, &probes, &wanted), Some(vec![4, 0]));
        assert_eq!(misses(profile, &probes[1..], &wanted), None);
    }
}
