//! Bytes read as a script: each choice costs a byte, so that a small change of the bytes is a small change
//! of what happens.

/// What is left of the script. At its end every choice is the first.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// One of `count`.
    pub fn choice(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    /// A place in something long.
    pub fn number_below(&mut self, end: usize) -> usize {
        let number = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        number % end.max(1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.choice(times) + 1 == times
    }

    pub fn pick<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        list.get(self.choice(list.len()))
    }

    /// Up to `most` bytes as they are.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = self.choice(most + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// Mostly small, sometimes at the end of what a number can be, sometimes any.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small % 40),
            large @ 200..=219 => u64::MAX - u64::from(large - 200),
            _ => {
                let mut bytes = [0; 8];
                bytes.fill_with(|| self.byte());
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Mostly near `centre`.
    pub fn near(&mut self, centre: u64) -> u64 {
        match self.byte() {
            ahead @ 0..=127 => centre.saturating_add(u64::from(ahead / 8)),
            behind @ 128..=191 => centre.saturating_sub(u64::from(behind - 128) / 2),
            _ => self.number(),
        }
    }
}
