//! Bytes that are to do harm.

use super::*;

/// Whatever the bytes in an event, it is one line and holds nothing harmful.
#[test]
fn no_event_commands_the_terminal_or_forges_a_line() {
    let kinds = [Event::ALL, &[Event::Other]].concat();
    let statuses = [Status::Complete, Status::Partial, Status::Deleted];
    let mut random = Random::new();
    for _ in 0..50_000 {
        let strings = [random.text(), random.text(), random.text()];
        let event = EventRecord {
            process: Actor {
                pid: None,
                tid: random.below(99) as i32,
                comm: Some(random.name().into()),
                ..Actor::default()
            },
            path: Some(random.name().into()),
            path_status: Some(statuses[random.below(3)]),
            old_path: Some(random.name().into()),
            target: Some(random.name().into()),
            rdev: Some(&strings[0]),
            proto: Some(&strings[1]),
            addr: Some(&strings[2]),
            ..event(kinds[random.below(kinds.len())])
        };
        let mut out = Vec::new();
        render(
            &mut Text::new(false, Vec::new()),
            &event,
            &random.name(),
            &mut out,
        );
        let seed = random.seed;
        let line = String::from_utf8(out).unwrap();
        let line = line.strip_suffix('\n').expect("a line");
        assert!(
            !line.chars().any(escape::is_harmful),
            "seed {seed}: {line:?}"
        );
        assert!(!line.ends_with(' '), "seed {seed}: {line:?}");
    }
}
