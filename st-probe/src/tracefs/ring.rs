//! Sub-buffer pages of the tracing ring buffer, as `trace_pipe_raw` gives them.
//!
//! Format: kernel/trace/ring_buffer.c and include/linux/ring_buffer.h (Linux 6.12), the
//! same from 5.10 to 7.3: a page header (u64 time stamp, a long with the length of the
//! data and flags), then events, each a u32 whose low five bits are `type_len` and whose
//! upper 27 the nanoseconds since the event before it. Everything is in the byte order of
//! the machine, and so is this parser.

const MISSED_EVENTS: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
const HEADER: usize = 16;

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record with its time.
    Record {
        /// Nanoseconds of the buffer's clock.
        ts: u64,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Records were overwritten before this page, so many if the kernel could tell.
    Lost(Option<u64>),
}

/// Takes a page apart, in order. The error says what is wrong; what came before it is good.
pub fn parse<'a>(page: &'a [u8], mut item: impl FnMut(Item<'a>)) -> Result<(), &'static str> {
    let mut ts = u64_at(page, 0).ok_or("a page is shorter than its header")?;
    let commit = u64_at(page, 8).ok_or("a page is shorter than its header")?;
    let length = (commit & 0xfff_ffff) as usize;
    let end = HEADER + length;
    if end > page.len() {
        return Err("a page claims more data than it has");
    }
    if commit & MISSED_EVENTS != 0 {
        let stored = commit & MISSED_STORED != 0;
        item(Item::Lost(if stored { u64_at(page, end) } else { None }));
    }
    let page = &page[..end];
    let mut at = HEADER;
    while at < end {
        let word = u32_at(page, at).ok_or("an event header is cut")?;
        let (kind, delta) = (word & 0x1f, u64::from(word >> 5));
        at += 4;
        let next = || {
            u32_at(page, at)
                .ok_or("an event is cut")
                .map(|word| (word as usize, u64::from(word)))
        };
        match kind {
            // Padding: with a zero delta to the end of the page, else a discarded event.
            29 => {
                if delta == 0 {
                    return Ok(());
                }
                ts = ts.wrapping_add(delta);
                at += next()?.0;
            }
            // RINGBUF_TYPE_TIME_EXTEND: a delta too long for 27 bits.
            30 => {
                ts = ts.wrapping_add(delta + (next()?.1 << 27));
                at += 4;
            }
            // RINGBUF_TYPE_TIME_STAMP: the time itself, without its five highest bits.
            31 => {
                ts = ts & !((1 << 59) - 1) | delta | next()?.1 << 27;
                at += 4;
            }
            _ => {
                ts = ts.wrapping_add(delta);
                let length = if kind == 0 {
                    let length = next()?.0;
                    at += 4;
                    length
                        .checked_sub(4)
                        .ok_or("an event is shorter than its header")?
                } else {
                    4 * kind as usize
                };
                let data = page
                    .get(at..at + length)
                    .ok_or("an event reaches beyond its page")?;
                item(Item::Record { ts, data });
                at += length.next_multiple_of(4);
            }
        }
    }
    Ok(())
}

fn u32_at(page: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(page.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(page: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(page.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(commit: u64, words: &[u32]) -> Vec<u8> {
        let mut page = [1000u64.to_ne_bytes(), commit.to_ne_bytes()].concat();
        page.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        page
    }

    fn items(page: &[u8]) -> (Vec<Item<'_>>, Result<(), &'static str>) {
        let mut items = Vec::new();
        let result = parse(page, |item| items.push(item));
        (items, result)
    }

    #[test]
    fn reads_small_and_large_events() {
        let page = page(24, &[5 << 5 | 1, 7, 3 << 5, 12, 8, 9]);
        let (items, result) = items(&page);
        assert_eq!(result, Ok(()));
        let expected = [
            Item::Record {
                ts: 1005,
                data: &7u32.to_ne_bytes(),
            },
            Item::Record {
                ts: 1008,
                data: &[8u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat()[..],
            },
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn follows_time_extends_stamps_and_padding() {
        let page = page(
            36,
            &[
                1 << 5 | 30,
                2, // + 1 + 2 << 27
                1 << 5 | 1,
                7,
                3 << 5 | 29,
                4, // discarded
                5 << 5 | 31,
                0,  // absolute
                29, // rest of the page
            ],
        );
        let (items, result) = items(&page);
        assert_eq!(result, Ok(()));
        assert_eq!(
            items,
            [Item::Record {
                ts: 1000 + 1 + (2 << 27) + 1,
                data: &7u32.to_ne_bytes()
            }]
        );
    }

    #[test]
    fn tells_lost_records() {
        let mut stored = page(MISSED_EVENTS | MISSED_STORED | 8, &[1, 7]);
        stored.extend(42u64.to_ne_bytes());
        assert_eq!(items(&stored).0[0], Item::Lost(Some(42)));
        assert_eq!(items(&page(MISSED_EVENTS, &[])).0, [Item::Lost(None)]);
    }

    #[test]
    fn survives_every_cut_and_flip() {
        let whole = page(24, &[5 << 5 | 1, 7, 3 << 5, 12, 8, 9]);
        for cut in 0..whole.len() {
            assert!(items(&whole[..cut]).1.is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                let _ = items(&flipped);
            }
        }
    }
}
