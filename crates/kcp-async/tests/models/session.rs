//! Writers, a reader and the driver around two sessions: the dirty flag, the inbox, who transmits,
//! and whom a change wakes.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use shuttle::future;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Arc, Mutex, MutexGuard};
use shuttle::thread;

use crate::explore;
use crate::wakers::{WakeList, Wakers};

/// A step that is done wrongly, to see that the model notices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoilt {
    Nothing,
    /// The flag is cleared after the session was served: what changes meanwhile is never seen.
    FlagClearedLate,
    /// The driver looks at its list and falls asleep in two steps.
    FallsAsleepLate,
    /// Whoever finds the session transmitting leaves no note, and the other one does not look again.
    NoNote,
    /// A reader registers after it has unlocked the session that it found empty.
    RegistersLate,
}

struct Shared {
    inbox: Mutex<Inbox>,
    /// What the socket was given: session and number.
    sent: Mutex<Vec<(usize, u32)>>,
    spoilt: Spoilt,
}

#[derive(Default)]
struct Inbox {
    dirty: Vec<Arc<Cell>>,
    driver: Option<Waker>,
    asleep: bool,
}

struct Cell {
    id: usize,
    dirty: AtomicBool,
    state: Mutex<Session>,
}

/// The engine is a counter of what was written, and echoes what was sent to the reader.
#[derive(Default)]
struct Session {
    next: u32,
    queued: VecDeque<u32>,
    readable: u32,
    readers: Wakers,
    transmitting: bool,
    driver_waits: bool,
    handles: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drained {
    Empty,
    Bound,
    Elsewhere,
}

impl Shared {
    /// `shared.rs`
    fn call_driver(&self, cell: &Arc<Cell>) {
        if cell.dirty.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut inbox = self.inbox.lock().unwrap();
        inbox.dirty.push(Arc::clone(cell));
        let asleep = mem::take(&mut inbox.asleep);
        let waker = inbox.driver.as_ref().filter(|_| asleep).cloned();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// `shared.rs`
    fn take_dirty(&self, cx: &Context<'_>, list: &mut Vec<Arc<Cell>>) -> bool {
        let mut inbox = self.inbox.lock().unwrap();
        if inbox.dirty.is_empty() {
            if self.spoilt == Spoilt::FallsAsleepLate {
                drop(inbox);
                inbox = self.inbox.lock().unwrap();
            }
            inbox.asleep = true;
            inbox.driver = Some(cx.waker().clone());
            return false;
        }
        inbox.asleep = false;
        mem::swap(&mut inbox.dirty, list);
        true
    }

    /// `transmit.rs`, with a socket that always has room
    fn drain<'a>(
        &self,
        cell: &'a Cell,
        mut session: MutexGuard<'a, Session>,
        bound: usize,
    ) -> (MutexGuard<'a, Session>, Drained) {
        if session.transmitting {
            session.driver_waits |= self.spoilt != Spoilt::NoNote;
            return (session, Drained::Elsewhere);
        }
        let mut sent = 0;
        loop {
            if sent == bound {
                return (session, Drained::Bound);
            }
            let Some(number) = session.queued.pop_front() else {
                return (session, Drained::Empty);
            };
            session.transmitting = true;
            drop(session);
            self.sent.lock().unwrap().push((cell.id, number));
            session = cell.state.lock().unwrap();
            session.transmitting = false;
            session.readable += 1;
            sent += 1;
            if self.spoilt == Spoilt::NoNote {
                return (session, Drained::Empty);
            }
        }
    }

    /// `transmit.rs`: the echo is something to look after, so an empty engine calls the driver too
    fn send_inline<'a>(&self, cell: &'a Arc<Cell>, session: MutexGuard<'a, Session>) {
        let (mut session, drained) = self.drain(cell, session, 1);
        let waited_for = mem::take(&mut session.driver_waits);
        let call = match drained {
            Drained::Elsewhere => {
                session.driver_waits = self.spoilt != Spoilt::NoNote;
                false
            }
            Drained::Empty => waited_for || session.readable > 0,
            Drained::Bound => true,
        };
        drop(session);
        if call {
            self.call_driver(cell);
        }
    }
}

/// `driver.rs`: only the phase that serves what handles changed
struct Driver {
    shared: Arc<Shared>,
    cells: Vec<Arc<Cell>>,
    unfinished: Vec<Arc<Cell>>,
    wake: WakeList,
}

impl Driver {
    fn serve(&mut self, cell: &Arc<Cell>) {
        let mut session = cell.state.lock().unwrap();
        let shared = Arc::clone(&self.shared);
        let drained;
        (session, drained) = shared.drain(cell, session, 2);
        if drained == Drained::Bound {
            self.unfinished.push(Arc::clone(cell));
        }
        if self.shared.spoilt != Spoilt::NoNote {
            session.driver_waits = drained == Drained::Elsewhere;
        }
        if session.readable > 0 {
            session.readers.move_to(&mut self.wake);
        }
    }

    fn serve_dirty(&mut self, cx: &Context<'_>) -> bool {
        for cell in mem::take(&mut self.unfinished) {
            self.serve(&cell);
        }
        for _ in 0..2 {
            let mut list = Vec::new();
            let some = self.shared.take_dirty(cx, &mut list);
            let late = self.shared.spoilt == Spoilt::FlagClearedLate;
            let clear = |list: &[Arc<Cell>]| {
                for cell in list {
                    cell.dirty.store(false, Ordering::SeqCst);
                }
            };
            if !late {
                clear(&list);
            }
            for cell in &list {
                self.serve(cell);
            }
            if late {
                clear(&list);
            }
            self.wake.wake();
            if !some {
                return !self.unfinished.is_empty();
            }
        }
        true
    }

    fn is_done(&self) -> bool {
        self.cells.iter().all(|cell| {
            let session = cell.state.lock().unwrap();
            session.handles == 0 && session.queued.is_empty()
        })
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let more = self.serve_dirty(cx);
        if self.is_done() {
            return Poll::Ready(());
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Reads `count` numbers of the echo.
async fn read(shared: &Shared, cell: &Arc<Cell>, count: u32) {
    for _ in 0..count {
        std::future::poll_fn(|cx| {
            let mut session = cell.state.lock().unwrap();
            if session.readable > 0 {
                session.readable -= 1;
                return Poll::Ready(());
            }
            if shared.spoilt == Spoilt::RegistersLate {
                drop(session);
                session = cell.state.lock().unwrap();
            }
            session.readers.register(cx.waker());
            Poll::Pending
        })
        .await;
    }
}

/// `stream/handle.rs`: a write, and the drop of a handle
fn write(shared: &Shared, cell: &Arc<Cell>, count: u32) {
    for _ in 0..count {
        let mut session = cell.state.lock().unwrap();
        let number = session.next;
        session.next += 1;
        session.queued.push_back(number);
        shared.send_inline(cell, session);
    }
    drop_handle(shared, cell);
}

fn drop_handle(shared: &Shared, cell: &Arc<Cell>) {
    cell.state.lock().unwrap().handles -= 1;
    shared.call_driver(cell);
}

/// Two writers of one session, a writer of another, a reader, the driver.
fn model(spoilt: Spoilt) {
    let shared = Arc::new(Shared {
        inbox: Mutex::default(),
        sent: Mutex::default(),
        spoilt,
    });
    let cells: Vec<_> = [3, 1]
        .into_iter()
        .enumerate()
        .map(|(id, handles)| {
            Arc::new(Cell {
                id,
                dirty: AtomicBool::new(false),
                state: Mutex::new(Session {
                    handles,
                    ..Session::default()
                }),
            })
        })
        .collect();
    let driver = Driver {
        shared: Arc::clone(&shared),
        cells: cells.clone(),
        unfinished: Vec::new(),
        wake: WakeList::new(),
    };
    let driver = thread::spawn(move || future::block_on(driver));
    let writers: Vec<_> = [(0, 2), (0, 1), (1, 1)]
        .into_iter()
        .map(|(index, count): (usize, u32)| {
            let (shared, cell) = (Arc::clone(&shared), Arc::clone(&cells[index]));
            thread::spawn(move || write(&shared, &cell, count))
        })
        .collect();
    future::block_on(read(&shared, &cells[0], 3));
    drop_handle(&shared, &cells[0]);
    for writer in writers {
        writer.join().unwrap();
    }
    driver.join().unwrap();

    let sent = shared.sent.lock().unwrap();
    let of = |id| -> Vec<u32> {
        let mine = sent.iter().filter(|(session, _)| *session == id);
        mine.map(|&(_, number)| number).collect()
    };
    assert_eq!((of(0), of(1)), (vec![0, 1, 2], vec![0]), "once, in order");
}

#[test]
fn nobody_sleeps_for_ever_and_trains_keep_their_order() {
    explore(|| model(Spoilt::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn notices_a_flag_that_is_cleared_late() {
    explore(|| model(Spoilt::FlagClearedLate));
}

#[test]
#[should_panic(expected = "deadlock")]
fn notices_a_driver_that_falls_asleep_late() {
    explore(|| model(Spoilt::FallsAsleepLate));
}

#[test]
#[should_panic(expected = "deadlock")]
fn notices_a_transmission_without_a_note() {
    explore(|| model(Spoilt::NoNote));
}

#[test]
#[should_panic(expected = "deadlock")]
fn notices_a_reader_that_registers_late() {
    explore(|| model(Spoilt::RegistersLate));
}
