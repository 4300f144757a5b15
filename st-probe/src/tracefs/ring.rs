//! Sub-buffer pages of the tracing ring buffer, as `trace_pipe_raw` gives them.
//!
//! Their format is in kernel/trace/ring_buffer.c and include/linux/ring_buffer.h (Linux 6.12), the
//! same from 5.10 to 7.3. A page begins with a header: a u64, which is a time stamp, and a long,
//! which holds the length of the data and flags (a long has 8 bytes on the architectures that
//! st-probe knows). Events follow. Each begins with a u32: its low five bits are `type_len`, its
//! upper 27 bits the nanoseconds since the event before it. All numbers are in the byte order of
//! the machine, and this parser reads them so.

/// RB_MISSED_EVENTS: records before this page were overwritten.
const MISSED_EVENTS: u64 = 1 << 31;
/// RB_MISSED_STORED: how many these are stands behind the data.
const MISSED_STORED: u64 = 1 << 30;
/// Bytes of the header of a page.
const HEADER: usize = 16;

/// The largest sub-buffer that the kernel lets an administrator choose, in bytes.
pub const LARGEST_SUB_BUFFER: usize = 1 << 20;

/// Values of `type_len` that are no length: enum ring_buffer_type.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;

/// An item of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record with its time.
    Record {
        /// Nanoseconds of the buffer's clock.
        ts: u64,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Records before this page were overwritten: how many, if the kernel has stored that.
    Lost(Option<u64>),
}

/// Calls `item` with each item of a page, in order. An error says what is wrong with the page;
/// the items before it are good.
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
        match kind {
            // With a delta of zero it reaches to the end of the page; else it is an event that was
            // discarded.
            PADDING => {
                if delta == 0 {
                    return Ok(());
                }
                ts = ts.wrapping_add(delta);
                at += second_word(page, at)? as usize;
            }
            // A delta that does not fit in 27 bits.
            TIME_EXTEND => {
                ts = ts.wrapping_add(delta + (u64::from(second_word(page, at)?) << 27));
                at += 4;
            }
            // The time itself; its five highest bits are as before.
            TIME_STAMP => {
                let highest = ts & !((1 << 59) - 1);
                ts = highest | delta | u64::from(second_word(page, at)?) << 27;
                at += 4;
            }
            // A record of so many words. If that is 0, the next word tells how many bytes the
            // record has together with that word.
            _ => {
                ts = ts.wrapping_add(delta);
                let length = if kind == 0 {
                    let length = second_word(page, at)? as usize;
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

/// The word that follows the first one of an event.
fn second_word(page: &[u8], at: usize) -> Result<u32, &'static str> {
    u32_at(page, at).ok_or("an event is cut")
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
        let (stored, _) = items(&stored);
        assert_eq!(stored[0], Item::Lost(Some(42)));
        let page = page(MISSED_EVENTS, &[]);
        let (items, _) = items(&page);
        assert_eq!(items, [Item::Lost(None)]);
    }

    #[test]
    fn survives_every_cut_and_flip() {
        let whole = page(24, &[5 << 5 | 1, 7, 3 << 5, 12, 8, 9]);
        for cut in 0..whole.len() {
            let (_, result) = items(&whole[..cut]);
            assert!(result.is_err(), "cut at {cut}");
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
