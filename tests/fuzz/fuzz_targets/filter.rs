//! Attacks st-filter: its output is a whole stream, the same each time, and every event
//! passes either a filter or its inverse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_filter::Filter;
use st_filter::expression::Expression;
use st_filter::family::{Family, Root};
use st_filter::predicate::PathPattern;
use st_pathtree::wire::Record;

fuzz_target!(|input: &[u8]| {
    let all = fuzz::run(Filter::default, input);
    let pattern = |pattern: &str| PathPattern::new(pattern.as_bytes()).expect("a pattern");
    let filter = |invert| Filter {
        expression: Expression {
            uids: vec![0, 1],
            exes: vec![pattern("/usr/bin/*"), pattern("b*x")],
            paths: vec![pattern("/srv/**/[a-w]*"), pattern("www/*")],
            invert,
            ..Expression::default()
        },
        family: Some(Family::new(vec![Root::Pid(1), Root::Command])),
        ..Filter::default()
    };
    let some = fuzz::run(|| filter(false), input);
    let others = fuzz::run(|| filter(true), input);
    let events = |stream| {
        let records = fuzz::whole(stream);
        let is_event =
            |record: &&&[u8]| Record::new(record).is_some_and(|record| record.kind() == "event");
        records.iter().filter(is_event).count()
    };
    assert_eq!(events(&some) + events(&others), events(&all));
});
