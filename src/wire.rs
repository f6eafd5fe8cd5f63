//! The few byte-level rules that records and messages share: a version byte, little-endian integers, texts with their
//! length. Reading is total: `None` instead of a panic, and trailing bytes are refused.

/// Builds a versioned byte string.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

/// Reads a versioned byte string from front to back.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl Writer {
    /// Starts with the version byte.
    pub fn new(version: u8) -> Writer {
        Writer(vec![version])
    }

    /// Adds a byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Adds a truth value.
    pub fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// Adds 4 bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds 8 bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds 8 bytes.
    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a text and its length. Texts here are tokens and appids, far below 4 GiB.
    pub fn text(&mut self, value: &str) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value.as_bytes());
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl<'a> Reader<'a> {
    /// Begins to read; `None` when the bytes are of another version.
    pub fn new(bytes: &'a [u8], version: u8) -> Option<Reader<'a>> {
        let (first, rest) = bytes.split_first()?;
        (*first == version).then_some(Reader(rest))
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// The next truth value; only 0 and 1 are one.
    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// The next 4 bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 8 bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next 8 bytes.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next text.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// Ends the reading; `None` when something is left.
    pub fn finish(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}
