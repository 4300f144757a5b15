use super::*;
use crate::rows::Rows;
use crate::testing::{self, Pack, Random, no_record, of, pack};
use st_pathtree::stage::Stage;

const START: u64 = 1_795_362_564_000_000_000;

fn summary(every: Option<u64>, records: &[Vec<u8>]) -> String {
    let every = every.map(Duration::from_secs);
    let mut rows = Rows::new(Summary::new(false, every, false), false);
    let mut out = Vec::new();
    rows.begin(&testing::header(0, START), no_record(), &mut out);
    let end = pack(&[("t", Pack::Str(b"end"))]);
    for record in records.iter().chain([&end]) {
        rows.push(of(record), &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

/// An event `at` so many milliseconds, by a program, on a path or an address.
fn event(kind: &[u8], at: u64, program: &[u8], what: &[u8]) -> Vec<u8> {
    pack(&[
        ("t", Pack::Str(b"event")),
        ("event", Pack::Str(kind)),
        ("ts", Pack::Int(START + at * 1_000_000)),
        ("seq", Pack::Int(at)),
        ("cpu", Pack::Int(0)),
        (
            "process",
            Pack::Map(&[
                ("pid", Pack::Int(at / 1000)),
                ("tid", Pack::Int(at)),
                ("uid", Pack::Int(1000)),
                ("comm", Pack::Bin(b"nc")),
                ("exe", Pack::Bin(program)),
                ("argv", Pack::Array(&[Pack::Bin(program), Pack::Bin(what)])),
                ("container", Pack::Bin(b"3fa8b2c4d5e6f708")),
            ]),
        ),
        ("path", Pack::Bin(what)),
        ("path_status", Pack::Str(b"complete")),
        ("proto", Pack::Str(b"tcp")),
        (
            "addr",
            Pack::Str(&String::from_utf8_lossy(what).into_owned().into_bytes()),
        ),
        ("port", Pack::Int(443)),
        ("ret", Pack::Raw(b"\xd0\x91")),
    ])
}

#[test]
fn a_page_says_what_was_done() {
    let records = [
        event(b"create", 0, b"/bin/tar", b"/srv/www/a"),
        event(b"create", 1, b"/bin/tar", b"/srv/www/b"),
        event(b"create", 2, b"/bin/tar", b"/srv/www/c"),
        event(b"attrib", 1003, b"/bin/tar", b"/srv/www/c"),
        event(b"delete", 1004, b"/bin/rm", b"/srv/www/c"),
        event(b"connect", 2005, b"/bin/nc", b"2001:db8::1"),
        pack(&[
            ("t", Pack::Str(b"lost")),
            ("since", Pack::Int(0)),
            ("ts", Pack::Int(1)),
            ("count", Pack::Int(12)),
            ("cause", Pack::Str(b"ring buffer")),
        ]),
    ];
    // A line that ends with a backslash takes the spaces before the next one.
    let expected = " \
6 events in 2.005 s
 2026-11-22T15:49:24.000000Z to 2026-11-22T15:49:26.005000Z
        3 create           1 delete           1 attrib           1 connect

   events processes
        4 /bin/tar ... uid=1000 3fa8b2c4d5e6
          2 processes: 3 create, 1 attrib
        1 /bin/nc 2001:db8::1 uid=1000 3fa8b2c4d5e6
          1 connect
        1 /bin/rm /srv/www/c uid=1000 3fa8b2c4d5e6
          1 delete

   events   made changed removed   temp directories
        5      2       -       -      1 /srv/www

    times connected to
        1 tcp [2001:db8::1]:443                  nc               1 failed

 12 records were lost (ring buffer): a larger --buffer-size (of systracer or
   st-probe) holds longer bursts
";
    assert_eq!(summary(None, &records), expected);
}

#[test]
fn nothing_is_a_page_too() {
    assert_eq!(summary(None, &[]), " No events.\n\n Nothing was lost.\n");
}

#[test]
fn pages_come_by_the_time_of_the_trace() {
    let at = |at| event(b"create", at, b"/bin/sh", b"/a");
    let page = summary(Some(2), &[at(0), at(1999), at(2000), at(3999), at(9000)]);
    let totals: Vec<_> = page.lines().filter(|line| line.contains(" in ")).collect();
    let totals: Vec<_> = totals
        .iter()
        .filter(|line| line.contains("event"))
        .collect();
    assert_eq!(
        totals,
        [
            &" 2 events in 1.999 s",
            &" 4 events in 3.999 s",
            &" 5 events in 9.000 s"
        ]
    );
}

#[test]
fn directories_are_folded_into_twenty_lines() {
    let mut records = Vec::new();
    for number in 0..4000_u64 {
        let path = match number % 4 {
            0 => format!("/usr/share/doc/p{}/x{number}", number % 100),
            1 => format!("/usr/lib/x{number}"),
            2 => format!("/var/lib/dpkg/info/x{number}"),
            _ => format!("/{}/deep/x", number),
        };
        records.push(event(b"create", number, b"/bin/dpkg", path.as_bytes()));
    }
    let page = summary(None, &records);
    let lines = page
        .lines()
        .skip_while(|line| !line.contains("directories"));
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    assert!(lines.len() <= 22, "{page}");
    let number = |line: &str| {
        line.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let (all, each) = lines[1..].split_last().unwrap();
    assert_eq!(number(all), 4000);
    assert_eq!(each.iter().map(|line| number(line)).sum::<u64>(), 4000);
    for path in ["/usr/lib", "/var/lib/dpkg/info"] {
        let line = each.iter().find(|line| line.ends_with(&format!(" {path}")));
        assert_eq!(number(line.expect(path)), 1000, "{page}");
    }
}

#[test]
fn parts_of_other_events_are_not_counted() {
    let mut part = event(b"create", 1, b"/bin/sh", b"/upper/a");
    // The number of entries is in the last byte of the map's head.
    part[2] += 1;
    part.extend(b"\xa8layer_of\x00");
    let page = summary(None, &[event(b"create", 0, b"/bin/sh", b"/merged/a"), part]);
    assert!(page.starts_with(" 1 event in"), "{page}");
}

#[test]
fn no_name_breaks_the_page() {
    let mut random = Random::new();
    let kinds: [&[u8]; 6] = [
        b"create", b"delete", b"connect", b"listen", b"exec", b"later",
    ];
    for _ in 0..300 {
        let records: Vec<_> = (0..40)
            .map(|at| {
                let name = random.name().repeat(1 + random.below(30));
                event(kinds[random.below(6)], at, &random.name(), &name)
            })
            .collect();
        let page = summary(None, &records);
        for line in page.lines() {
            let seed = random.seed;
            assert!(
                !line.chars().any(crate::escape::is_harmful),
                "seed {seed}: {line:?}"
            );
            assert!(line.chars().count() <= page::WIDTH, "seed {seed}: {line}");
        }
    }
}
