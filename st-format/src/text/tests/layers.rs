//! Events that are part of others.

use super::*;

#[test]
fn layers_are_left_out_where_what_they_are_part_of_is_shown() {
    let record = |seq, layer_of: Option<u64>| {
        let mut fields = vec![
            ("t", Pack::Str(b"event")),
            ("event", Pack::Str(b"delete")),
            ("ts", Pack::Int(0)),
            ("seq", Pack::Int(seq)),
            ("cpu", Pack::Int(0)),
            ("process", Pack::Map(&[("tid", Pack::Int(1))])),
        ];
        fields.extend(layer_of.map(|outer| ("layer_of", Pack::Int(outer))));
        pack(&fields)
    };
    for (layers, lines) in [(false, 2), (true, 4)] {
        let mut text = Text::new(false, Vec::new()).layers(layers);
        let mut out = Vec::new();
        for (seq, layer_of) in [(2, Some(1)), (5, None), (6, Some(5)), (7, Some(6))] {
            text.push(of(&record(seq, layer_of)), &mut out).unwrap();
        }
        assert_eq!(out.split(|&byte| byte == b'\n').count() - 1, lines);
    }
}
