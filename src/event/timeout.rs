//! Timers that a request or a connection arms again and again and that almost never run.
//!
//! Envoy makes an event of libevent for each of them. Of the same length they run in the order in which they
//! were armed, so here a loop has one list for each length and one event of libevent for the list, armed for the
//! oldest and left alone when that one is disarmed: it then runs for nothing, once, and is armed for who is the oldest
//! now. To arm and to disarm is to link and to unlink a place that is used again (libevent's
//! `event_base_init_common_timeout` has such lists too, but its events lie in what is made and freed).

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::clock::Moment;
use super::libevent::Base;
use super::{Dispatcher, Timer};

/// Lists of a loop; whoever wants yet another length while all are in use has an event of its own, which is made then.
const MOST_LISTS: usize = 16;
/// No place.
const NONE: u32 = u32::MAX;
/// Set in the place of a timeout that has an event of its own; the rest is where that is.
const ALONE: u32 = 1 << 31;
/// The loop's timers are no finer.
const RESOLUTION: Duration = Duration::from_millis(1);

/// Who has timeouts.
pub trait TimeoutCallbacks {
    /// The time is over; `which` is what [`Timeout::enable`] was given.
    fn on_timeout(&self, which: u8);
}

/// A timeout of its owner. Dropping it disarms it. A millisecond is the resolution.
pub struct Timeout {
    /// Where it is linked, or with [`ALONE`] its own event; or [`NONE`].
    place: Cell<u32>,
    generation: Cell<u32>,
    /// There once it was armed.
    lists: OnceCell<Rc<TimeoutLists>>,
}

impl Default for Timeout {
    #[inline]
    fn default() -> Self {
        Timeout { place: Cell::new(NONE), generation: Cell::new(0), lists: OnceCell::new() }
    }
}

impl Timeout {
    /// Arms it, replacing an earlier deadline: `callbacks` has `which` after `after`, unless it is gone then.
    /// Zero is as soon as the loop has polled again. A timeout stays with the dispatcher that it was armed on first.
    pub fn enable(
        &self,
        dispatcher: &Dispatcher,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
        after: Duration,
    ) {
        self.disable();
        let lists = self.lists.get_or_init(|| dispatcher.timeout_lists().clone());
        match lists.link(after, callbacks, which) {
            Ok((place, generation)) => {
                self.place.set(place);
                self.generation.set(generation);
            }
            Err(callbacks) => self.enable_alone(dispatcher, callbacks, which, after),
        }
    }

    /// As [`Timeout::enable`], for a length that hardly anybody else has, as what is left of another one: it takes no list
    /// from those that come with each request.
    pub fn enable_alone(
        &self,
        dispatcher: &Dispatcher,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
        after: Duration,
    ) {
        self.disable();
        let lists = self.lists.get_or_init(|| dispatcher.timeout_lists().clone());
        let timer = dispatcher.create_timer(move || {
            if let Some(callbacks) = callbacks.upgrade() {
                callbacks.on_timeout(which);
            }
        });
        timer.enable_timer(after.max(RESOLUTION));
        self.place.set(ALONE | lists.keep_alone(timer));
    }

    /// Disarms it; whether it was armed.
    #[inline]
    pub fn disable(&self) -> bool {
        let place = self.place.replace(NONE);
        place != NONE && self.unlink(place)
    }

    fn unlink(&self, place: u32) -> bool {
        let Some(lists) = self.lists.get() else { return false };
        if place & ALONE != 0 {
            return lists.drop_alone(place & !ALONE);
        }
        lists.unlink(place, self.generation.get())
    }

    /// Whether it is armed.
    #[inline(always)]
    pub fn enabled(&self) -> bool {
        match (self.place.get(), self.lists.get()) {
            (NONE, _) | (_, None) => false,
            (place, Some(lists)) if place & ALONE != 0 => lists.is_alone_enabled(place & !ALONE),
            (place, Some(lists)) => lists.holds(place, self.generation.get()),
        }
    }
}

impl Drop for Timeout {
    #[inline(always)]
    fn drop(&mut self) {
        self.disable();
    }
}

/// The lists of one loop.
pub(super) struct TimeoutLists {
    weak: Weak<TimeoutLists>,
    base: Rc<Base>,
    inner: RefCell<Inner>,
    /// The events of those that are in no list.
    alone: RefCell<Alone>,
}

#[derive(Default)]
struct Alone {
    timers: Vec<Option<Timer>>,
    free: Vec<u32>,
}

struct Inner {
    places: Vec<Place>,
    /// The first of the places that are free.
    free: u32,
    lists: Vec<List>,
}

/// One timeout, or room for one.
struct Place {
    /// Of those that are linked; in a free place the next free one.
    next: u32,
    previous: u32,
    /// Counts who has had the place.
    generation: u32,
    list: u16,
    which: u8,
    deadline: Moment,
    callbacks: Option<Weak<dyn TimeoutCallbacks>>,
}

/// The timeouts of one length, oldest first.
struct List {
    length: Duration,
    /// The same in nanoseconds, at least the resolution.
    wait: u64,
    oldest: u32,
    youngest: u32,
    timer: Timer,
    /// The timer runs at the deadline of the oldest, or before.
    armed: bool,
}

impl TimeoutLists {
    pub(super) fn new(base: &Rc<Base>) -> Rc<Self> {
        Rc::new_cyclic(|weak| TimeoutLists {
            weak: weak.clone(),
            base: base.clone(),
            inner: RefCell::new(Inner { places: Vec::new(), free: NONE, lists: Vec::new() }),
            alone: RefCell::default(),
        })
    }

    /// The place and its generation; gives `callbacks` back where there is no list for this length.
    fn link(
        &self,
        length: Duration,
        callbacks: Weak<dyn TimeoutCallbacks>,
        which: u8,
    ) -> Result<(u32, u32), Weak<dyn TimeoutCallbacks>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some(index) = self.list(inner, length) else { return Err(callbacks) };
        // At least so long that what arms itself again when it runs waits for the next time.
        let list = &mut inner.lists[index];
        let deadline = Moment::now().after_nanoseconds(list.wait);
        if !list.armed {
            list.armed = true;
            list.timer.enable_timer(length.max(RESOLUTION));
        }
        let linked = Place {
            next: NONE,
            previous: list.youngest,
            generation: 0,
            list: index as u16,
            which,
            deadline,
            callbacks: Some(callbacks),
        };
        let place = if inner.free == NONE {
            inner.places.push(linked);
            (inner.places.len() - 1) as u32
        } else {
            let place = inner.free;
            let old = &mut inner.places[place as usize];
            inner.free = old.next;
            *old = Place { generation: old.generation, ..linked };
            place
        };
        match list.youngest {
            NONE => list.oldest = place,
            youngest => inner.places[youngest as usize].next = place,
        }
        list.youngest = place;
        Ok((place, inner.places[place as usize].generation))
    }

    /// The list for a length: one that there is, one that nobody uses, or a new one.
    fn list(&self, inner: &mut Inner, length: Duration) -> Option<usize> {
        if let Some(index) = inner.lists.iter().position(|list| list.length == length) {
            return Some(index);
        }
        if inner.lists.len() == MOST_LISTS {
            let index = inner.lists.iter().position(|list| list.oldest == NONE)?;
            let unused = &mut inner.lists[index];
            unused.timer.disable_timer();
            unused.armed = false;
            (unused.length, unused.wait) = (length, wait(length));
            return Some(index);
        }
        let index = inner.lists.len();
        let lists = self.weak.clone();
        let timer = Timer::new(&self.base, move || {
            if let Some(lists) = lists.upgrade() {
                lists.on_timer(index);
            }
        });
        inner.lists.push(List {
            length,
            wait: wait(length),
            oldest: NONE,
            youngest: NONE,
            timer,
            armed: false,
        });
        Some(index)
    }

    /// How many lengths have a list.
    #[cfg(test)]
    pub(super) fn lengths(&self) -> usize {
        self.inner.borrow().lists.len()
    }

    fn holds(&self, place: u32, generation: u32) -> bool {
        self.inner.borrow().places[place as usize].generation == generation
    }

    /// False where it is over already.
    #[inline]
    fn unlink(&self, place: u32, generation: u32) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let linked = inner.places[place as usize].generation == generation;
        if linked {
            // Its owner is still there: nothing is dropped but a count.
            drop(inner.take(place));
        }
        linked
    }

    /// Keeps an event, and says where.
    fn keep_alone(&self, timer: Timer) -> u32 {
        let alone = &mut *self.alone.borrow_mut();
        let place = alone.free.pop().unwrap_or_else(|| {
            alone.timers.push(None);
            (alone.timers.len() - 1) as u32
        });
        alone.timers[place as usize] = Some(timer);
        place
    }

    /// Whether it was armed.
    fn drop_alone(&self, place: u32) -> bool {
        let alone = &mut *self.alone.borrow_mut();
        alone.free.push(place);
        let timer = alone.timers[place as usize].take();
        timer.is_some_and(|timer| timer.enabled())
    }

    fn is_alone_enabled(&self, place: u32) -> bool {
        self.alone.borrow().timers[place as usize].as_ref().is_some_and(Timer::enabled)
    }

    fn on_timer(&self, index: usize) {
        let due = Moment::now().after(RESOLUTION);
        loop {
            let (which, callbacks) = {
                let inner = &mut *self.inner.borrow_mut();
                let oldest = inner.lists[index].oldest;
                if oldest == NONE || inner.places[oldest as usize].deadline >= due {
                    break;
                }
                let which = inner.places[oldest as usize].which;
                (which, inner.take(oldest))
            };
            if let Some(callbacks) = callbacks.and_then(|callbacks| callbacks.upgrade()) {
                callbacks.on_timeout(which);
            }
        }
        let inner = &mut *self.inner.borrow_mut();
        let list = &mut inner.lists[index];
        list.armed = list.oldest != NONE;
        if list.armed {
            let left = inner.places[list.oldest as usize].deadline.since(Moment::now());
            list.timer.enable_timer(left.max(RESOLUTION));
        }
    }
}

fn wait(length: Duration) -> u64 {
    u64::try_from(length.max(RESOLUTION).as_nanos()).unwrap_or(u64::MAX)
}

impl Inner {
    /// Unlinks what is at `place`, which is free then.
    #[inline(always)]
    fn take(&mut self, place: u32) -> Option<Weak<dyn TimeoutCallbacks>> {
        let Place { next, previous, list, .. } = self.places[place as usize];
        let list = &mut self.lists[list as usize];
        match next {
            NONE => list.youngest = previous,
            next => self.places[next as usize].previous = previous,
        }
        match previous {
            NONE => list.oldest = next,
            previous => self.places[previous as usize].next = next,
        }
        let taken = &mut self.places[place as usize];
        taken.generation = taken.generation.wrapping_add(1);
        taken.next = self.free;
        self.free = place;
        taken.callbacks.take()
    }
}
