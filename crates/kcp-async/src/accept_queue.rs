//! Sessions that wait to be accepted, in the order in which they became ready. Pure.
//!
//! A session that ends while it waits leaves at once, wherever it stands: a flood of forged first
//! datagrams fills the queue with sessions that all end.

use std::collections::{HashMap, VecDeque};
use std::mem;

use foldhash::fast::RandomState;

use crate::deadlines::SessionId;
use crate::wakers::Wakers;

/// A queue from which any entry can be taken in constant time.
#[derive(Debug)]
pub(crate) struct AcceptQueue<T> {
    /// Places in order; one that was taken out of the middle is empty. At least half are not.
    places: VecDeque<Option<(SessionId, T)>>,
    /// The number of the first place.
    first: u64,
    /// The number of the place of each entry.
    numbers: HashMap<SessionId, u64, RandomState>,
    pub(crate) waiters: Wakers,
    pub(crate) open: bool,
}

impl<T> AcceptQueue<T> {
    pub(crate) fn new(open: bool) -> Self {
        Self {
            places: VecDeque::new(),
            first: 0,
            numbers: HashMap::default(),
            waiters: Wakers::default(),
            open,
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn push(&mut self, id: SessionId, session: T) {
        let number = self.first + self.places.len() as u64;
        self.places.push_back(Some((id, session)));
        self.numbers.insert(id, number);
    }

    /// The one that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<T> {
        while let Some(place) = self.places.pop_front() {
            self.first += 1;
            if let Some((id, session)) = place {
                self.numbers.remove(&id);
                self.close_up();
                return Some(session);
            }
        }
        None
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: SessionId) -> Option<T> {
        let number = self.numbers.remove(&id)?;
        let place = self.places.get_mut((number - self.first) as usize)?;
        let (_, session) = place.take()?;
        self.close_up();
        Some(session)
    }

    /// All of them, in order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.numbers.clear();
        let places = mem::take(&mut self.places);
        places.into_iter().flatten().map(|(_, session)| session)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|(_, session)| session)
    }

    /// One of them by chance, each as likely as any other. `None` without randomness too,
    /// and otherwise once in 2^32 calls at most.
    pub(crate) fn any(&self, mut random: impl FnMut() -> Option<u32>) -> Option<&T> {
        for _ in 0..DRAWS {
            let drawn = (random()? as usize).checked_rem(self.places.len())?;
            if let Some(Some((_, session))) = self.places.get(drawn) {
                return Some(session);
            }
        }
        None
    }

    /// Removes the empty places once they are more than half: as many entries have left since the last time.
    fn close_up(&mut self) {
        if self.places.len() <= 2 * self.numbers.len() {
            return;
        }
        self.places.retain(Option::is_some);
        self.first = 0;
        for (number, (id, _)) in (0..).zip(self.places.iter().flatten()) {
            self.numbers.insert(*id, number);
        }
    }
}

/// Half of the places are taken at least.
const DRAWS: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> AcceptQueue<u64> {
        let mut queue = AcceptQueue::new(true);
        for n in 0..count {
            queue.push(SessionId(n), n);
        }
        queue
    }

    #[test]
    fn what_is_left_keeps_its_order() {
        let mut queue = filled(100);
        for n in (0..100).filter(|n| n % 3 != 1) {
            assert_eq!(queue.remove(SessionId(n)), Some(n));
            assert_eq!(queue.remove(SessionId(n)), None);
        }
        queue.push(SessionId(100), 100);
        assert_eq!(queue.len(), 34);
        assert_eq!(queue.iter().count(), 34);
        let left: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
        let expected: Vec<u64> = (0..=100).filter(|n| n % 3 == 1).collect();
        assert_eq!(left, expected);
        assert_eq!(queue.len(), 0);
    }

    /// One that is never accepted, behind which others come and go.
    #[test]
    fn empty_places_are_bounded() {
        let mut queue = filled(1);
        for n in 1..10_000 {
            queue.push(SessionId(n), n);
            queue.remove(SessionId(n));
            assert!(queue.places.len() <= 2, "{}", queue.places.len());
        }
        assert_eq!(queue.pop(), Some(0));
    }

    /// Entries moved together per entry that leaves: less than two on average, in any order.
    #[test]
    fn leaving_costs_the_same_however_many_wait() {
        for step in [1, 7, 9_973] {
            let count = 65_536_u64;
            let mut queue = filled(count);
            let mut moved = 0;
            for n in (0..count).map(|n| n * step % count) {
                let before = queue.places.len();
                queue.remove(SessionId(n));
                if queue.places.len() < before {
                    moved += before;
                }
            }
            assert_eq!(queue.len(), 0);
            assert!(moved <= 3 * count as usize, "{moved}");
        }
    }

    #[test]
    fn each_is_drawn_as_often() {
        let mut queue = filled(8);
        for n in [0, 2, 3] {
            queue.remove(SessionId(n));
        }
        let mut counts = [0; 8];
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(state >> 8)
        };
        for _ in 0..8_000 {
            counts[*queue.any(&mut random).unwrap() as usize] += 1;
        }
        assert_eq!((counts[0], counts[2], counts[3]), (0, 0, 0));
        let drawn = [1, 4, 5, 6, 7].map(|n| counts[n]);
        assert!(
            drawn.iter().all(|n| (1_400..1_800).contains(n)),
            "{drawn:?}"
        );
    }

    #[test]
    fn an_empty_queue_draws_nothing() {
        let queue = filled(0);
        assert_eq!(queue.any(|| Some(7)), None);
        assert_eq!(filled(3).any(|| None), None);
    }
}
