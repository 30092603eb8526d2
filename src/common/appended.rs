//! Lists that only grow: the first `N` items lie where the list does.
//!
//! For what nearly always has so many, in objects of which there are thousands: there is no memory of its own then, and no
//! borrow to be held while an item is called that may add another one.

use std::cell::{OnceCell, RefCell};

/// See the module's description.
pub struct Appended<T, const N: usize> {
    first: [OnceCell<T>; N],
    more: OnceCell<Box<RefCell<Vec<T>>>>,
}

impl<T, const N: usize> Default for Appended<T, N> {
    fn default() -> Self {
        Appended { first: [const { OnceCell::new() }; N], more: OnceCell::new() }
    }
}

impl<T: Clone, const N: usize> Appended<T, N> {
    /// Adds an item at the end.
    pub fn push(&self, item: T) {
        let mut left = Some(item);
        for place in &self.first {
            left = left.and_then(|item| place.set(item).err());
        }
        if let Some(item) = left {
            self.more.get_or_init(Box::default).borrow_mut().push(item);
        }
    }

    /// An item, if there are so many.
    #[inline]
    pub fn get(&self, index: usize) -> Option<T> {
        match self.first.get(index) {
            Some(place) => place.get().cloned(),
            None => self.more.get()?.borrow().get(index - N).cloned(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let first = self.first.iter().filter(|place| place.get().is_some()).count();
        first + self.more.get().map_or(0, |more| more.borrow().len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.get(0).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_the_order_in_which_they_were_added() {
        let list: Appended<u8, 2> = Appended::default();
        let none: Appended<u8, 0> = Appended::default();
        assert!(list.is_empty() && none.is_empty());
        for item in 0..5 {
            assert_eq!((list.len(), list.get(item.into())), (item.into(), None));
            list.push(item);
            none.push(item);
        }
        let items = |get: &dyn Fn(usize) -> Option<u8>| (0..).map_while(get).collect::<Vec<_>>();
        assert_eq!(items(&|at| list.get(at)), [0, 1, 2, 3, 4]);
        assert_eq!((items(&|at| none.get(at)), none.len()), (vec![0, 1, 2, 3, 4], 5));
        assert!(!list.is_empty() && !none.is_empty());
    }
}
