//! Work that is independent for each transaction, on all cores.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Applies `work` to every item and returns the results in the items' order.
///
/// Threads of this call alone, as many as `workers` at most, take the items one after the other; the
/// caller's is one of them. They are not kept in a pool: starting one costs some 20 microseconds, as
/// much as half a signature check, and a block of one transaction starts none.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    workers: NonZeroUsize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let workers = workers.get().min(items.len());
    if workers <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take_items = || {
        let mut results = Vec::new();
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(position) else {
                return results;
            };
            results.push((position, work(item)));
        }
    };
    let mut results = thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(take_items)).collect();
        let mut results = take_items();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(position, _)| *position);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        for workers in 1..5 {
            let workers = NonZeroUsize::new(workers).unwrap();
            for count in [0, 1, 2, 3, 1000] {
                let items: Vec<usize> = (0..count).collect();
                let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
                assert_eq!(map(&items, workers, |item| item * 2), doubled);
            }
        }
    }
}
