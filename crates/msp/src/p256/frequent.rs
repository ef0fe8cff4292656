//! Which keys have tables.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::Table;
use crate::cache::SecondChanceCache;
use crate::ecdsa::{EcdsaSignature, left_padded};

/// A table is made for a key whose signatures had to be checked this often without one. After as many
/// with it, it has paid for itself four times; where more keys sign often than have tables, making them again
/// and again costs a tenth of a check for each.
pub(super) const CHECKS_BEFORE_TABLE: u32 = 512;

/// This many keys have tables at most, 8 MiB in all. One that was not used for a while makes room.
const MAX_TABLES: usize = 32;

type Tables = SecondChanceCache<Box<[u8]>, Arc<Table>>;

/// The tables of all keys of the process, by their uncompressed points. They depend on nothing but
/// the key, so that those who read the same certificate again find them.
static TABLES: LazyLock<Mutex<Tables>> = LazyLock::new(|| Mutex::new(Tables::new(MAX_TABLES)));

/// How often signatures of a key were checked without a table.
#[derive(Default)]
pub(crate) struct Frequency(AtomicU32);

impl Frequency {
    /// Whether the key with this uncompressed point has a table, by which the signature is known to be
    /// the key's over something with this hash. Now and then this makes a key's table.
    pub(crate) fn confirms(&self, point: &[u8], hash: &[u8], signature: &EcdsaSignature) -> bool {
        let Some(table) = self.table(point) else {
            return false;
        };
        let (r, s) = signature.numbers();
        match (hash.try_into(), left_padded(r), left_padded(s)) {
            (Ok(hash), Some(r), Some(s)) => table.confirms(hash, &r, &s),
            _ => false,
        }
    }

    fn table(&self, point: &[u8]) -> Option<Arc<Table>> {
        if let Some(table) = TABLES.lock().get(point) {
            return Some(table.clone());
        }
        let checks = self.0.fetch_add(1, Ordering::Relaxed);
        if checks % CHECKS_BEFORE_TABLE != CHECKS_BEFORE_TABLE - 1 {
            return None;
        }
        let table = Arc::new(Table::new(point)?);
        TABLES.lock().insert(point.into(), table.clone());
        Some(table)
    }
}

impl fmt::Debug for Frequency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
