//! Draws from the seed: a number in [0, 1) that depends on its key and on nothing else.
//!
//! The same seed, proxy, connection ordinal, direction and toxic give the same draws in every
//! run, whatever happens to other links, so a replay meets the same faults on the same links.

use crate::toxic::Stream;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One direction of one link, as far as draws are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneKey(u64);

impl LaneKey {
    pub(crate) fn new(seed: u64, proxy: &str, ordinal: u64, stream: Stream) -> Self {
        let mut hash = FNV_OFFSET;
        hash = absorb(hash, &seed.to_le_bytes());
        hash = absorb(hash, proxy.as_bytes());
        // A byte that UTF-8 never has: without it ("ab", …) and ("a", "b…") would be one key.
        hash = absorb(hash, &[0xff]);
        hash = absorb(hash, &ordinal.to_le_bytes());
        hash = absorb(hash, stream.as_str().as_bytes());
        Self(absorb(hash, &[0xff]))
    }

    /// The draws of one toxic on this direction; the first decides whether it applies at all.
    pub(crate) fn draws(self, toxic: &str) -> Draws {
        Draws {
            state: absorb(self.0, toxic.as_bytes()),
        }
    }
}

/// A sequence of draws (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    state: u64,
}

impl Draws {
    /// Returns the next number in [0, 1).
    pub(crate) fn next_unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // 32 bits are exact in an f64 and plenty for a share or a jitter in milliseconds.
        let [a, b, c, d, ..] = mixed.to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }
}

fn absorb(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

#[cfg(test)]
mod tests;
