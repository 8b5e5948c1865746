//! Threads that take buffers from a pool and give them back.
//!
//! The pool's queue is a third party's; here a locked deque stands in for it, so that the pool's
//! own steps are what is interleaved.

use std::collections::VecDeque;

use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use crate::explore;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoilt {
    Nothing,
    /// Contents are forgotten when a buffer is handed out the next time, by nobody.
    KeepsContents,
    /// The queue is asked whether it has room, and then used.
    ChecksThenPushes,
}

const LIMIT: usize = 1;

/// `buffer.rs`: one class
struct Class {
    idle: Mutex<VecDeque<Vec<u8>>>,
    reused: AtomicUsize,
    allocated: AtomicUsize,
    freed: AtomicUsize,
    spoilt: Spoilt,
}

impl Class {
    fn take(&self) -> Vec<u8> {
        if let Some(buffer) = self.idle.lock().unwrap().pop_front() {
            self.reused.fetch_add(1, Ordering::SeqCst);
            return buffer;
        }
        self.allocated.fetch_add(1, Ordering::SeqCst);
        Vec::with_capacity(4)
    }

    fn give(&self, mut buffer: Vec<u8>) {
        if self.spoilt != Spoilt::KeepsContents {
            buffer.clear();
        }
        if !self.push(buffer) {
            self.freed.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Of the queue: `false` if it is full.
    fn push(&self, buffer: Vec<u8>) -> bool {
        let mut idle = self.idle.lock().unwrap();
        let has_room = idle.len() < LIMIT;
        if self.spoilt == Spoilt::ChecksThenPushes {
            drop(idle);
            idle = self.idle.lock().unwrap();
        }
        if has_room {
            idle.push_back(buffer);
        }
        has_room
    }
}

const THREADS: u8 = 3;
const TURNS: usize = 2;

fn model(spoilt: Spoilt) {
    let class = Arc::new(Class {
        idle: Mutex::default(),
        reused: AtomicUsize::new(0),
        allocated: AtomicUsize::new(0),
        freed: AtomicUsize::new(0),
        spoilt,
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|id| {
            let class = Arc::clone(&class);
            thread::spawn(move || {
                for _ in 0..TURNS {
                    let mut buffer = class.take();
                    assert!(buffer.is_empty(), "somebody else's bytes");
                    assert!(buffer.capacity() >= 4);
                    buffer.extend([id; 4]);
                    thread::yield_now();
                    assert_eq!(buffer, [id; 4], "somebody else writes to it");
                    class.give(buffer);
                    assert!(class.idle.lock().unwrap().len() <= LIMIT);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let get = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let (reused, allocated) = (get(&class.reused), get(&class.allocated));
    assert_eq!(reused + allocated, usize::from(THREADS) * TURNS);
    let idle = class.idle.lock().unwrap().len();
    assert_eq!(allocated, idle + get(&class.freed), "none is lost");
}

#[test]
fn every_buffer_has_one_owner_and_is_counted_once() {
    explore(|| model(Spoilt::Nothing));
}

#[test]
#[should_panic(expected = "somebody else's bytes")]
fn notices_contents_that_are_kept() {
    explore(|| model(Spoilt::KeepsContents));
}

#[test]
#[should_panic]
fn notices_a_limit_that_is_checked_too_early() {
    explore(|| model(Spoilt::ChecksThenPushes));
}
