use proptest::prelude::*;

use super::*;

fn frame(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

fn lane(class: FrameClass, channel: &str) -> Lane {
    let channel = (!channel.is_empty()).then(|| ChannelId::from(channel));
    Lane { class, channel }
}

fn bulk(channel: &str) -> Lane {
    lane(FrameClass::Bulk, channel)
}

fn control(channel: &str) -> Lane {
    lane(FrameClass::Control, channel)
}

fn alive() -> Lane {
    lane(FrameClass::Liveness, "")
}

fn queue(frames: usize, bytes: usize) -> SendQueue<Bytes> {
    SendQueue::new(Size { frames, bytes })
}

const FULL: Pushed = Pushed {
    accepted: false,
    evicted: Evicted {
        bulk: 0,
        control: 0,
    },
};

fn accepted(control: usize, bulk: usize) -> Pushed {
    Pushed {
        accepted: true,
        evicted: Evicted { bulk, control },
    }
}

/// The lengths of what leaves, in order.
fn drain(queue: &mut SendQueue<Bytes>) -> Vec<usize> {
    let frames = std::iter::from_fn(|| queue.pop());
    frames.map(|(_, frame)| frame.len()).collect()
}

#[test]
fn control_goes_first_and_pushes_out_bulk() {
    let mut queue = queue(2, 1000);
    queue.push(bulk("a"), frame(1));
    queue.push(bulk("a"), frame(2));
    assert_eq!(queue.push(bulk("a"), frame(3)), FULL);
    assert_eq!(queue.push(control("a"), frame(4)), accepted(0, 1));
    assert_eq!(queue.push(control("a"), frame(5)), accepted(0, 1));
    assert_eq!(queue.push(control("a"), frame(6)), FULL);
    assert_eq!(drain(&mut queue), [4, 5]);
    queue.push(bulk("a"), frame(1));
    queue.push(control("a"), frame(2));
    assert_eq!(drain(&mut queue), [2, 1]);
}

#[test]
fn what_says_who_is_alive_goes_first_and_pushes_out_all_else_the_least_urgent_first() {
    let mut queue = queue(3, 1000);
    queue.push(bulk("a"), frame(1));
    queue.push(control("a"), frame(2));
    queue.push(alive(), frame(3));
    assert_eq!(drain(&mut queue), [3, 2, 1]);
    queue.push(control("a"), frame(1));
    queue.push(bulk("a"), frame(2));
    queue.push(control("b"), frame(3));
    assert_eq!(queue.push(alive(), frame(4)), accepted(0, 1));
    assert_eq!(queue.push(alive(), frame(5)), accepted(1, 0));
    assert_eq!(queue.push(bulk("a"), frame(6)), FULL);
    assert_eq!(queue.push(alive(), frame(7)), accepted(1, 0));
    assert_eq!(queue.push(alive(), frame(8)), FULL);
    assert_eq!(drain(&mut queue), [4, 5, 7]);
}

#[test]
fn a_channel_that_floods_with_control_frames_holds_up_no_other() {
    let mut queue = queue(200, 100_000);
    for _ in 0..200 {
        assert_eq!(queue.push(control("flood"), frame(100)), accepted(0, 0));
    }
    assert_eq!(queue.push(control("calm"), frame(100)), accepted(1, 0));
    assert_eq!(queue.push(control(""), frame(100)), accepted(1, 0));
    assert_eq!(queue.push(control("flood"), frame(100)), FULL);
    let order = std::iter::from_fn(|| queue.pop()).map(|(lane, _)| lane);
    let first: Vec<Lane> = order.take(3).collect();
    assert_eq!(first, [control("flood"), control("calm"), control("")]);
}

#[test]
fn control_that_cannot_fit_pushes_nothing_out() {
    let mut queue = queue(10, 100);
    queue.push(bulk("a"), frame(50));
    queue.push(control("a"), frame(10));
    assert_eq!(queue.push(control("a"), frame(91)), FULL);
    assert_eq!(drain(&mut queue), [10, 50]);
}

#[test]
fn bytes_are_bounded_but_one_frame_always_fits() {
    let mut queue = queue(10, 100);
    assert_eq!(queue.push(bulk("a"), frame(500)), accepted(0, 0));
    assert_eq!(queue.push(bulk("a"), frame(1)), FULL);
    assert_eq!(queue.push(control("a"), frame(1)), accepted(0, 1));
    assert_eq!(queue.push(bulk("a"), frame(99)), accepted(0, 0));
    assert_eq!(queue.push(bulk("a"), frame(1)), FULL);
    assert_eq!(queue.clear(), 2);
    assert!(queue.is_empty());
    queue.push(bulk("a"), frame(1));
    assert_eq!(queue.push(control("a"), frame(500)), accepted(0, 1));
    assert_eq!(queue.push(control("b"), frame(500)), FULL);
    assert_eq!(queue.push(alive(), frame(1)), accepted(1, 0));
    assert_eq!(drain(&mut queue), [1]);
}

#[test]
fn a_channel_that_holds_more_gives_way_and_one_that_does_not_stays() {
    let mut frames = queue(8, 1000);
    for _ in 0..8 {
        frames.push(bulk("busy"), frame(10));
    }
    // Half of the frames each, and no more.
    for _ in 0..4 {
        assert_eq!(frames.push(bulk("calm"), frame(20)), accepted(0, 1));
    }
    assert_eq!(frames.push(bulk("calm"), frame(20)), FULL);
    assert_eq!(frames.push(bulk("busy"), frame(10)), FULL);
    assert_eq!(drain(&mut frames), [10, 10, 20, 10, 10, 20, 20, 20]);

    let mut bytes = queue(100, 1000);
    for _ in 0..10 {
        bytes.push(bulk("busy"), frame(100));
    }
    // Half of the bytes each.
    assert_eq!(bytes.push(bulk("calm"), frame(450)), accepted(0, 5));
    assert_eq!(bytes.push(bulk("calm"), frame(51)), FULL);
    assert_eq!(bytes.push(bulk("calm"), frame(50)), accepted(0, 0));
    assert_eq!(bytes.push(bulk("third"), frame(50)), accepted(0, 1));
}

#[test]
fn a_frame_that_would_not_fit_after_all_costs_nobody_anything() {
    let mut queue = queue(100, 1000);
    for _ in 0..10 {
        queue.push(bulk("a"), frame(100));
    }
    assert_eq!(queue.push(bulk("b"), frame(600)), FULL);
    assert_eq!(queue.push(bulk("b"), frame(1001)), FULL);
    assert_eq!(drain(&mut queue).len(), 10);
}

proptest! {
    /// Whatever is done, the bounds hold, what is counted is what is there, a refusal changes nothing, and nothing
    /// makes room for what is less urgent.
    #[test]
    fn bounds_hold_whatever_is_done(
        limit in (0_usize..10, 0_usize..100),
        steps in prop::collection::vec((0_u8..4, 0_u8..4, 0_usize..60), 0..200),
    ) {
        let mut queue = queue(limit.0, limit.1);
        for (step, channel, length) in steps {
            let before = queue.size();
            let Some(class) = FrameClass::ALL.get(usize::from(step)).copied() else {
                let left = queue.pop().map_or(0, |_| 1);
                prop_assert_eq!(queue.size().frames + left, before.frames);
                continue;
            };
            let earlier = total(&queue.classes[..class as usize]);
            let lane = lane(class, &"abc"[..usize::from(channel)]);
            let pushed = queue.push(lane, frame(length));
            let size = queue.size();
            let Evicted { bulk, control } = pushed.evicted;
            let added = usize::from(pushed.accepted);
            prop_assert_eq!(size.frames + bulk + control, before.frames + added);
            prop_assert_eq!(total(&queue.classes[..class as usize]), earlier);
            prop_assert!(class < FrameClass::Bulk || control == 0);
            if !pushed.accepted {
                prop_assert_eq!(size, before);
            }
            prop_assert!(size.frames <= 1 || size.excess_over(queue.limit).is_none());
        }
    }
}
