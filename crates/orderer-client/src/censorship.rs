//! When a source of blocks is suspected of withholding them.
//!
//! Rules of `bft_censorship_monitor.go`: a header that is ahead of the last block raises a
//! suspicion, dated from the arrival of that header. Only a block with that number, or a later one,
//! disproves it. Once the suspicion is as old as the timeout, it counts as censorship.

use std::time::Duration;

use tokio::time::Instant;

/// Compares the progress of headers and blocks. No clock of its own.
#[derive(Debug)]
pub(crate) struct Detector {
    timeout: Duration,
    suspicion: Option<Suspicion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspicion {
    number: u64,
    since: Instant,
}

/// The last header of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderSeen {
    pub(crate) number: u64,
    pub(crate) at: Instant,
}

/// How far the blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockProgress {
    /// The number of the block that is due.
    pub(crate) next: u64,
    /// Whether blocks wait for this peer to take them, which is nobody else's fault.
    pub(crate) held_up: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Look again at this time, if nothing happens before.
    Suspicious(Instant),
    Censorship,
}

impl Detector {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            suspicion: None,
        }
    }

    pub(crate) fn judge(
        &mut self,
        now: Instant,
        progress: BlockProgress,
        headers: impl IntoIterator<Item = HeaderSeen>,
    ) -> Verdict {
        let disproved = |suspicion: Suspicion| suspicion.number < progress.next;
        if progress.held_up || self.suspicion.is_some_and(disproved) {
            self.suspicion = None;
        }
        if self.suspicion.is_none() {
            let ahead = headers
                .into_iter()
                .filter(|header| header.number >= progress.next);
            let first = ahead.min_by_key(|header| header.at);
            // While held up, suspicions have not begun: they are dated from the end of it.
            self.suspicion = first.map(|header| Suspicion {
                number: header.number,
                since: if progress.held_up { now } else { header.at },
            });
        }
        match self.suspicion {
            None => Verdict::Fine,
            Some(Suspicion { since, .. }) if now < since + self.timeout => {
                Verdict::Suspicious(since + self.timeout)
            }
            Some(_) => Verdict::Censorship,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    struct Scene {
        start: Instant,
        detector: Detector,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                detector: Detector::new(TIMEOUT),
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn judge(&mut self, now: u64, next: u64, headers: &[(u64, u64)]) -> Verdict {
            self.judge_progress(
                now,
                BlockProgress {
                    next,
                    held_up: false,
                },
                headers,
            )
        }

        fn judge_progress(
            &mut self,
            now: u64,
            progress: BlockProgress,
            headers: &[(u64, u64)],
        ) -> Verdict {
            let start = self.start;
            let headers = headers.iter().map(|&(number, at)| HeaderSeen {
                number,
                at: start + Duration::from_secs(at),
            });
            self.detector
                .judge(start + Duration::from_secs(now), progress, headers)
        }
    }

    #[test]
    fn headers_that_are_not_ahead_are_fine() {
        let mut scene = Scene::new();
        assert_eq!(scene.judge(100, 5, &[]), Verdict::Fine);
        assert_eq!(scene.judge(100, 5, &[(4, 0), (3, 0)]), Verdict::Fine);
    }

    #[test]
    fn the_first_header_ahead_dates_the_suspicion_and_later_ones_do_not_renew_it() {
        let mut scene = Scene::new();
        let until = scene.at(31);
        assert_eq!(
            scene.judge(2, 5, &[(5, 1), (6, 2)]),
            Verdict::Suspicious(until)
        );
        assert_eq!(
            scene.judge(30, 5, &[(9, 29), (9, 30)]),
            Verdict::Suspicious(until)
        );
        assert_eq!(scene.judge(31, 5, &[(9, 29), (9, 30)]), Verdict::Censorship);
    }

    #[test]
    fn only_the_block_itself_or_a_later_one_disproves_it() {
        let mut scene = Scene::new();
        scene.judge(1, 5, &[(7, 1)]);
        assert_eq!(
            scene.judge(20, 7, &[(7, 1)]),
            Verdict::Suspicious(scene.at(31))
        );
        assert_eq!(scene.judge(20, 8, &[(7, 1)]), Verdict::Fine);
        assert_eq!(
            scene.judge(40, 8, &[(8, 39)]),
            Verdict::Suspicious(scene.at(69))
        );
    }

    #[test]
    fn while_this_peer_does_not_take_blocks_nobody_is_suspected() {
        let mut scene = Scene::new();
        scene.judge(1, 5, &[(7, 1)]);
        let held_up = BlockProgress {
            next: 5,
            held_up: true,
        };
        let until = scene.at(130);
        assert_eq!(
            scene.judge_progress(100, held_up, &[(7, 1)]),
            Verdict::Suspicious(until)
        );
        assert_eq!(scene.judge(129, 5, &[(7, 1)]), Verdict::Suspicious(until));
        assert_eq!(scene.judge(130, 5, &[(7, 1)]), Verdict::Censorship);
    }
}
