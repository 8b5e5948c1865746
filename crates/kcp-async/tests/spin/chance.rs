//! Drawn decisions, and futures that are dropped half-way.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// SplitMix64. Each task has its own, so that one task's draws do not depend on another's pace.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// 0 up to but not including `n`.
    pub(crate) const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Every order of magnitude below `max` as likely as the others.
    pub(crate) const fn size(&mut self, max: u64) -> usize {
        let bits = self.below(max.ilog2() as u64 + 1);
        (self.next() % (2 << bits)) as usize
    }

    /// Awaits `future`, or drops it after a drawn number of polls: `None`.
    ///
    /// Every other future is left alone: one that is dropped is polled without having been woken,
    /// and would hide that a wake-up is missing.
    pub(crate) async fn cut<F: Future>(&mut self, future: F) -> Option<F::Output> {
        if self.one_in(2) {
            return Some(future.await);
        }
        let polls = self.below(4);
        let future = pin!(future);
        Cut { future, polls }.await
    }
}

pub(crate) const fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

struct Cut<'a, F> {
    future: Pin<&'a mut F>,
    polls: u64,
}

impl<F: Future> Future for Cut<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
