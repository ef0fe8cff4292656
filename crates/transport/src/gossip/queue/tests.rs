use std::sync::Arc;

use super::super::Lane;
use super::*;

fn frame(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

fn bulk(channel: &str) -> FrameClass {
    FrameClass::Bulk(Lane::new(channel))
}

const FULL: Pushed = Pushed {
    accepted: false,
    evicted: 0,
};

fn accepted(evicted: usize) -> Pushed {
    Pushed {
        accepted: true,
        evicted,
    }
}

/// The lengths of what leaves, in order.
fn drain(queue: &SendQueue) -> Vec<usize> {
    queue.set_current(Some(1));
    std::iter::from_fn(|| queue.try_pop(1))
        .map(|frame| frame.len())
        .collect()
}

#[test]
fn control_goes_first_and_pushes_out_bulk() {
    let queue = SendQueue::new(2, 1000);
    queue.push(bulk("a"), frame(1));
    queue.push(bulk("a"), frame(2));
    assert_eq!(queue.push(bulk("a"), frame(3)), FULL);
    assert_eq!(queue.push(FrameClass::Control, frame(4)), accepted(1));
    assert_eq!(queue.push(FrameClass::Control, frame(5)), accepted(1));
    assert_eq!(queue.push(FrameClass::Control, frame(6)), FULL);
    assert_eq!(drain(&queue), [4, 5]);
    queue.push(bulk("a"), frame(1));
    queue.push(FrameClass::Control, frame(2));
    assert_eq!(drain(&queue), [2, 1]);
}

#[test]
fn control_that_cannot_fit_pushes_nothing_out() {
    let queue = SendQueue::new(10, 100);
    queue.push(bulk("a"), frame(50));
    queue.push(FrameClass::Control, frame(10));
    assert_eq!(queue.push(FrameClass::Control, frame(91)), FULL);
    assert_eq!(drain(&queue), [10, 50]);
}

#[test]
fn bytes_are_bounded_but_one_frame_always_fits() {
    let queue = SendQueue::new(10, 100);
    assert_eq!(queue.push(bulk("a"), frame(500)), accepted(0));
    assert_eq!(queue.push(bulk("a"), frame(1)), FULL);
    assert_eq!(queue.push(FrameClass::Control, frame(1)), accepted(1));
    assert_eq!(queue.push(bulk("a"), frame(99)), accepted(0));
    assert_eq!(queue.push(bulk("a"), frame(1)), FULL);
    assert_eq!(queue.clear(), 2);
    assert!(queue.is_empty());
    queue.push(bulk("a"), frame(1));
    assert_eq!(queue.push(FrameClass::Control, frame(500)), accepted(1));
    assert_eq!(drain(&queue), [500]);
}

#[test]
fn a_channel_that_holds_more_gives_way_and_one_that_does_not_stays() {
    let queue = SendQueue::new(8, 1000);
    for _ in 0..8 {
        queue.push(bulk("busy"), frame(10));
    }
    // Half of the frames each, and no more.
    for _ in 0..4 {
        assert_eq!(queue.push(bulk("calm"), frame(20)), accepted(1));
    }
    assert_eq!(queue.push(bulk("calm"), frame(20)), FULL);
    assert_eq!(queue.push(bulk("busy"), frame(10)), FULL);
    assert_eq!(drain(&queue), [10, 10, 20, 10, 10, 20, 20, 20]);

    let queue = SendQueue::new(100, 1000);
    for _ in 0..10 {
        queue.push(bulk("busy"), frame(100));
    }
    // Half of the bytes each.
    assert_eq!(queue.push(bulk("calm"), frame(450)), accepted(5));
    assert_eq!(queue.push(bulk("calm"), frame(51)), FULL);
    assert_eq!(queue.push(bulk("calm"), frame(50)), accepted(0));
    assert_eq!(queue.push(bulk("third"), frame(50)), accepted(1));
}

#[test]
fn a_frame_that_would_not_fit_after_all_costs_nobody_anything() {
    let queue = SendQueue::new(100, 1000);
    for _ in 0..10 {
        queue.push(bulk("a"), frame(100));
    }
    assert_eq!(queue.push(bulk("b"), frame(600)), FULL);
    assert_eq!(queue.push(bulk("b"), frame(1001)), FULL);
    assert_eq!(drain(&queue).len(), 10);
}

#[tokio::test]
async fn only_the_current_stream_takes_frames_and_a_change_wakes_the_next() {
    let queue = Arc::new(SendQueue::new(10, 100));
    queue.set_current(Some(1));
    queue.push(bulk("a"), frame(1));
    assert_eq!(queue.try_pop(2), None);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.pop(2).await.len() }
    });
    tokio::task::yield_now().await;
    queue.set_current(Some(2));
    assert_eq!(waiting.await.unwrap(), 1);
}

#[test]
fn what_waits_can_move_to_another_queue() {
    let (from, to) = (SendQueue::new(10, 100), SendQueue::new(3, 100));
    for length in [1, 2, 3] {
        from.push(bulk("a"), frame(length));
    }
    from.push(bulk("b"), frame(4));
    from.push(FrameClass::Control, frame(5));
    // There is room for three, and "b" has a right to one of them.
    assert_eq!(from.move_to(&to), 2);
    assert!(from.is_empty());
    assert_eq!(drain(&to), [5, 1, 4]);
}
