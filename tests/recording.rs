//! Recordings taken apart.

use st_probe::wire::Reader;

/// The records of a stream.
pub fn records(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::default();
    let mut records = Vec::new();
    loop {
        while let Some(record) = reader.take().expect("a recording") {
            records.push(record.bytes().to_vec());
        }
        if !reader.fill(&mut stream).expect("memory is readable") {
            return records;
        }
    }
}
