use std::sync::Arc;

use selvedge_gossip::event::FrameClass;
use selvedge_gossip::types::ChannelId;

use super::*;

fn frame(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

fn lane(class: FrameClass, channel: &str) -> Lane {
    let channel = Some(ChannelId::from(channel));
    Lane { class, channel }
}

#[tokio::test]
async fn only_the_current_stream_takes_frames_and_a_change_wakes_the_next() {
    let queue = Arc::new(PeerQueue::new(10, 100));
    queue.set_current(Some(1));
    queue.push(lane(FrameClass::Bulk, "a"), frame(1));
    assert_eq!(queue.try_pop(2), None);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.pop(2).await.len() }
    });
    tokio::task::yield_now().await;
    queue.set_current(Some(2));
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test]
async fn a_frame_wakes_the_stream_that_waits_for_one() {
    let queue = Arc::new(PeerQueue::new(10, 100));
    queue.set_current(Some(1));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.pop(1).await.len() }
    });
    tokio::task::yield_now().await;
    queue.push(lane(FrameClass::Control, "a"), frame(7));
    assert_eq!(waiting.await.unwrap(), 7);
}

#[test]
fn what_waits_can_move_to_another_queue() {
    let (from, to) = (PeerQueue::new(10, 100), PeerQueue::new(3, 100));
    for length in [1, 2, 3] {
        from.push(lane(FrameClass::Bulk, "a"), frame(length));
    }
    from.push(lane(FrameClass::Bulk, "b"), frame(4));
    from.push(lane(FrameClass::Control, "a"), frame(5));
    // There is room for three, and "b" has a right to one of them.
    assert_eq!(from.move_to(&to), 2);
    assert!(from.is_empty());
    to.set_current(Some(1));
    let left = std::iter::from_fn(|| to.try_pop(1));
    assert_eq!(left.map(|frame| frame.len()).collect::<Vec<_>>(), [5, 1, 4]);
}
