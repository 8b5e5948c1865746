//! The C core against itself: the wrapper carries messages over a bad link in virtual
//! time, which shows that its pieces fit before anything is compared with them.

use std::collections::VecDeque;

use oracle::CKcp;

fn pair(stream: bool, first: u32) -> [CKcp; 2] {
    [(); 2].map(|()| {
        let mut end = CKcp::new(7);
        end.set_mtu(300);
        end.set_windows(64, 128);
        end.set_nodelay(1, 10, 2, true);
        end.set_stream(stream);
        end.set_first_numbers(first, first);
        end
    })
}

/// Carries `messages` from end 0 to end 1 over a link that loses every seventh datagram
/// and takes 20 ms, and returns what end 1 received.
fn carry(ends: &mut [CKcp; 2], messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut links: [VecDeque<(u32, Vec<u8>)>; 2] = Default::default();
    let mut received = Vec::new();
    let mut emitted = 0_u32;
    let mut buffer = vec![0; 100_000];
    for message in messages {
        assert_eq!(ends[0].send(message), i32::try_from(message.len()).unwrap());
    }
    for now in 0..60_000_u32 {
        let now = now.wrapping_sub(30_000);
        for side in 0..2 {
            while links[1 - side].front().is_some_and(|first| first.0 == now) {
                let (_, datagram) = links[1 - side].pop_front().unwrap();
                ends[side].set_current(now);
                assert_eq!(ends[side].input(&datagram), 0);
            }
            ends[side].update(now);
            for datagram in ends[side].output().iter() {
                emitted += 1;
                if !emitted.is_multiple_of(7) {
                    links[side].push_back((now.wrapping_add(20), datagram.to_vec()));
                }
            }
            ends[side].clear_output();
        }
        while let Ok(len) = usize::try_from(ends[1].recv(&mut buffer)) {
            received.push(buffer[..len].to_vec());
        }
    }
    received
}

#[test]
fn messages_cross_a_lossy_link_once_and_in_order() {
    for first in [0, u32::MAX - 20, i32::MAX.cast_unsigned() - 20] {
        let mut ends = pair(false, first);
        let messages: Vec<Vec<u8>> = (0..200_usize)
            .map(|i| vec![i.to_le_bytes()[0]; (i * 37) % 2500])
            .collect();
        assert_eq!(carry(&mut ends, &messages), messages);
        let state = ends[0].visible();
        assert_eq!((state.nsnd_buf, state.nsnd_que), (0, 0));
        assert!(state.xmit > 0, "the link loses, so something timed out");
        assert!(state.rx_srtt >= 20 && state.rx_srtt < 100, "{state:?}");
    }
}

#[test]
fn stream_mode_joins_small_writes() {
    let mut ends = pair(true, 0);
    let messages: Vec<Vec<u8>> = (0..100_u8).map(|i| vec![i; 10]).collect();
    let received = carry(&mut ends, &messages);
    assert_eq!(received.concat(), messages.concat());
    assert!(received.len() < 10, "{}", received.len());
}

#[test]
fn results_of_calls_are_those_of_c() {
    let mut end = CKcp::new(7);
    let mut buffer = [0; 64];
    assert_eq!(end.recv(&mut buffer), -1);
    assert_eq!(end.peek(&mut buffer), -1);
    assert_eq!(end.peek_size(), -1);
    assert_eq!(end.send(&vec![0; 128 * 1376]), -2);
    assert_eq!(end.input(&[0; 23]), -1);
    assert_eq!(end.input(&[0; 24]), -1, "conv 0 is not conv 7");
    assert_eq!(end.set_mtu(49), -1);

    let mut sender = CKcp::new(7);
    assert_eq!(sender.send(b"hello"), 5);
    sender.update(0);
    assert!(
        sender.output().is_empty(),
        "cwnd is 0 until the first flush"
    );
    sender.update(100);
    let datagram = sender.output().iter().next().unwrap().to_vec();
    assert_eq!(datagram.len(), 29);

    let mut damaged = datagram.clone();
    damaged[20] = 6;
    assert_eq!(end.input(&damaged), -2);
    damaged[20] = 5;
    damaged[4] = 80;
    assert_eq!(end.input(&damaged), -3);
    assert_eq!(end.input(&datagram), 0);
    assert_eq!(end.pending_acks(), 1);
    assert_eq!(end.recv(&mut buffer[..4]), -3);
    assert_eq!(end.peek(&mut buffer), 5);
    assert_eq!(end.recv(&mut buffer), 5);
    assert_eq!(&buffer[..5], b"hello");

    let mut flying = Vec::new();
    sender.for_each_in_flight(|segment| flying.push(segment));
    assert_eq!(flying.len(), 1);
    assert_eq!((flying[0].sn, flying[0].xmit, flying[0].ts), (0, 1, 100));
    assert_eq!(sender.check(150), sender.next_tick().min(250));
}

#[test]
#[should_panic(expected = "overruns")]
fn a_shrinking_mtu_that_would_overrun_c_is_refused() {
    let mut end = CKcp::new(7);
    end.send(&[0; 1376]);
    end.set_mtu(50);
}
