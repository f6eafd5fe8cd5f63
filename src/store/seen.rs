//! Which tokens the mesh has had: a string that comes back from a neighbour's key must not be taken for a newer token.

use crate::secret::Secret;

/// A token without the token: enough to know it again, too little to be of use to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

/// How many the store remembers: more than a day's rotations.
const KEPT: usize = 16;

impl Fingerprint {
    /// The one of a token: FNV-1a, 64 bits.
    pub fn of(token: &Secret) -> Fingerprint {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Fingerprint(token.expose().bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }

    /// Those in a text of the store, 16 hexadecimal digits each; what is none is left out.
    pub fn listed(text: &str) -> Vec<Fingerprint> {
        let digits = |part: &[u8]| {
            let text = std::str::from_utf8(part).ok()?;
            u64::from_str_radix(text, 16).ok().map(Fingerprint)
        };
        text.as_bytes()
            .chunks_exact(16)
            .filter_map(digits)
            .collect()
    }

    /// The same as the store has it.
    pub fn digits(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The last tokens that were seen, newest last.
#[derive(Debug, Default)]
pub struct Seen(Vec<Fingerprint>);

impl Seen {
    /// Whether it was seen.
    pub fn has(&self, token: Fingerprint) -> bool {
        self.0.contains(&token)
    }

    /// Takes note of one.
    pub fn note(&mut self, token: Fingerprint) {
        if self.has(token) {
            return;
        }
        if self.0.len() >= 2 * KEPT {
            self.0.remove(0);
        }
        self.0.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_fnv_1a_and_reads_back() {
        let of = |text: &str| Fingerprint::of(&Secret::new(text));
        // From the reference implementation's test vectors.
        assert_eq!(of(""), Fingerprint(0xcbf2_9ce4_8422_2325));
        assert_eq!(of("a"), Fingerprint(0xaf63_dc4c_8601_ec8c));
        assert_eq!(of("foobar"), Fingerprint(0x8594_4171_f739_67e8));
        let text = [of("a").digits(), of("foobar").digits()].concat();
        assert_eq!(Fingerprint::listed(&text), [of("a"), of("foobar")]);
        assert_eq!(Fingerprint::listed("short"), []);
        let junk = format!("{}{}x", "zzzzzzzzzzzzzzzz", of("a").digits());
        assert_eq!(Fingerprint::listed(&junk), [of("a")]);
        assert_eq!(Fingerprint::listed("日日日日日日"), []);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = Seen::default();
        for number in 0..40 {
            seen.note(Fingerprint(number));
            seen.note(Fingerprint(number));
        }
        let kept: Vec<u64> = (0..40)
            .filter(|number| seen.has(Fingerprint(*number)))
            .collect();
        assert_eq!(kept, (8..40).collect::<Vec<_>>());
    }
}
