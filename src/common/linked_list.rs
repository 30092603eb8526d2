//! Lists whose items move between them in constant time.
//!
//! Mirrors Envoy's `source/common/common/linked_object.h`: an item knows its place, so it can leave
//! from the middle, and new items go to the front. Envoy threads the links through the items; here
//! the lists of one owner share an arena of nodes, and an item keeps its node's key. A key is good for
//! as long as its item is there: whoever has the node afterwards has another key.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::rc::Rc;

const NIL: u32 = u32::MAX;

/// Tells the lists of an [`Arena`] apart; made by [`lists!`](crate::lists).
pub trait Lists: Copy + Eq + fmt::Debug + 'static {
    /// One `List` for each.
    type Table: Default + AsRef<[Cell<List>]>;
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];
    /// The number of this one, from 0.
    fn index(self) -> usize;
}

/// Names the lists of an arena.
#[macro_export]
macro_rules! lists {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$list_doc:meta])* $list:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $name { $($(#[$list_doc])* $list),+ }

        impl $crate::common::linked_list::Lists for $name {
            type Table = [std::cell::Cell<$crate::common::linked_list::List>; <Self as $crate::common::linked_list::Lists>::ALL.len()];
            const ALL: &'static [Self] = &[$(Self::$list),+];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// The list of an arena that has but one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Only;

impl Lists for Only {
    type Table = [Cell<List>; 1];
    const ALL: &'static [Self] = &[Only];

    fn index(self) -> usize {
        0
    }
}

/// The place of an item in an [`Arena`]; stays valid when the item moves between lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeKey {
    index: u32,
    generation: NonZeroU32,
}

struct Node<T, L> {
    /// `None` for a free node.
    item: Option<Rc<T>>,
    /// Of the item that is there, or of the next one.
    generation: NonZeroU32,
    list: L,
    previous: u32,
    next: u32,
}

/// The ends of one list.
#[derive(Clone, Copy)]
pub struct List {
    front: u32,
    back: u32,
    length: usize,
}

impl Default for List {
    fn default() -> Self {
        List { front: NIL, back: NIL, length: 0 }
    }
}

/// The lists `L` of `Rc<T>`.
pub struct Arena<T, L: Lists> {
    nodes: RefCell<Vec<Node<T, L>>>,
    free: Cell<u32>,
    lists: L::Table,
    _names: PhantomData<L>,
}

impl<T, L: Lists> Default for Arena<T, L> {
    fn default() -> Self {
        Arena {
            nodes: RefCell::default(),
            free: Cell::new(NIL),
            lists: L::Table::default(),
            _names: PhantomData,
        }
    }
}

impl<T, L: Lists> Arena<T, L> {
    #[inline]
    fn list(&self, list: L) -> &Cell<List> {
        &self.lists.as_ref()[list.index()]
    }

    /// Items in a list.
    pub fn len(&self, list: L) -> usize {
        self.list(list).get().length
    }

    /// Whether a list has no items.
    pub fn is_empty(&self, list: L) -> bool {
        self.len(list) == 0
    }

    /// The first item.
    pub fn front(&self, list: L) -> Option<Rc<T>> {
        self.item(self.list(list).get().front)
    }

    /// The last item.
    pub fn back(&self, list: L) -> Option<Rc<T>> {
        self.item(self.list(list).get().back)
    }

    fn item(&self, index: u32) -> Option<Rc<T>> {
        self.nodes.borrow().get(index as usize).and_then(|n| n.item.clone())
    }

    /// All items of a list, front first.
    pub fn items(&self, list: L) -> Vec<Rc<T>> {
        let nodes = self.nodes.borrow();
        let mut items = Vec::with_capacity(self.len(list));
        let mut at = self.list(list).get().front;
        while let Some(node) = nodes.get(at as usize) {
            items.extend(node.item.clone());
            at = node.next;
        }
        items
    }

    /// Puts an item at the front of a list (Envoy: `moveIntoList`).
    pub fn push_front(&self, list: L, item: Rc<T>) -> NodeKey {
        let mut nodes = self.nodes.borrow_mut();
        let index = self.free.get();
        let index = if index == NIL {
            let generation = NonZeroU32::MIN;
            nodes.push(Node { item: Some(item), generation, list, previous: NIL, next: NIL });
            (nodes.len() - 1) as u32
        } else {
            let node = &mut nodes[index as usize];
            self.free.set(node.next);
            (node.item, node.list) = (Some(item), list);
            index
        };
        self.link_front(&mut nodes, list, index);
        NodeKey { index, generation: nodes[index as usize].generation }
    }

    /// Moves an item to the front of a list (Envoy: `moveBetweenLists`); false when it was taken out before.
    #[inline(always)]
    pub fn move_to_front(&self, key: NodeKey, list: L) -> bool {
        let mut nodes = self.nodes.borrow_mut();
        if Self::node(&nodes, key).is_none() {
            return false;
        }
        self.unlink(&mut nodes, key.index);
        nodes[key.index as usize].list = list;
        self.link_front(&mut nodes, list, key.index);
        true
    }

    /// Takes an item out of its list (Envoy: `removeFromList`); `None` when it was taken out before.
    pub fn remove(&self, key: NodeKey) -> Option<Rc<T>> {
        let mut nodes = self.nodes.borrow_mut();
        Self::node(&nodes, key)?;
        let node = &mut nodes[key.index as usize];
        let item = node.item.take()?;
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.unlink(&mut nodes, key.index);
        nodes[key.index as usize].next = self.free.replace(key.index);
        Some(item)
    }

    /// The list that an item is in; `None` when it was taken out before.
    pub fn list_of(&self, key: NodeKey) -> Option<L> {
        Self::node(&self.nodes.borrow(), key).map(|n| n.list)
    }

    /// The node of an item that is there.
    fn node(nodes: &[Node<T, L>], key: NodeKey) -> Option<&Node<T, L>> {
        nodes.get(key.index as usize).filter(|n| n.item.is_some() && n.generation == key.generation)
    }

    fn link_front(&self, nodes: &mut [Node<T, L>], list: L, index: u32) {
        let mut ends = self.list(list).get();
        nodes[index as usize].previous = NIL;
        nodes[index as usize].next = ends.front;
        match nodes.get_mut(ends.front as usize) {
            Some(old_front) => old_front.previous = index,
            None => ends.back = index,
        }
        ends.front = index;
        ends.length += 1;
        self.list(list).set(ends);
    }

    fn unlink(&self, nodes: &mut [Node<T, L>], index: u32) {
        let Node { list, previous, next, .. } = nodes[index as usize];
        let mut ends = self.list(list).get();
        match nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => ends.front = next,
        }
        match nodes.get_mut(next as usize) {
            Some(node) => node.previous = previous,
            None => ends.back = previous,
        }
        ends.length -= 1;
        self.list(list).set(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Pair::{First, Second};

    lists! {
        enum Pair { First, Second }
    }

    fn content(arena: &Arena<i32, Pair>, list: Pair) -> Vec<i32> {
        arena.items(list).iter().map(|i| **i).collect()
    }

    #[test]
    fn items_go_to_the_front_and_leave_from_anywhere() {
        let arena: Arena<i32, Pair> = Arena::default();
        let keys: Vec<NodeKey> = (0..4).map(|i| arena.push_front(First, Rc::new(i))).collect();
        assert_eq!(content(&arena, First), [3, 2, 1, 0]);
        assert_eq!((arena.front(First).as_deref(), arena.back(First).as_deref()), (Some(&3), Some(&0)));
        assert_eq!(arena.remove(keys[2]).as_deref(), Some(&2));
        assert_eq!(arena.remove(keys[2]), None);
        arena.remove(keys[0]);
        arena.remove(keys[3]);
        assert_eq!(content(&arena, First), [1]);
        arena.remove(keys[1]);
        assert!(arena.is_empty(First) && arena.front(First).is_none() && arena.back(First).is_none());
    }

    #[test]
    fn items_move_between_lists_and_keep_their_keys() {
        let arena: Arena<i32, Pair> = Arena::default();
        let a = arena.push_front(First, Rc::new(1));
        arena.push_front(First, Rc::new(2));
        arena.push_front(Second, Rc::new(3));
        assert!(arena.move_to_front(a, Second));
        assert_eq!((content(&arena, First), content(&arena, Second)), (vec![2], vec![1, 3]));
        assert_eq!(arena.list_of(a), Some(Second));
        assert!(arena.move_to_front(a, First));
        assert_eq!((content(&arena, First), content(&arena, Second)), (vec![1, 2], vec![3]));
        assert_eq!((arena.len(First), arena.len(Second)), (2, 1));
    }

    #[test]
    fn nodes_are_used_again() {
        let arena: Arena<i32, Only> = Arena::default();
        for i in 0..100 {
            let key = arena.push_front(Only, Rc::new(i));
            arena.remove(key);
        }
        assert_eq!(arena.nodes.borrow().len(), 1);
    }

    #[test]
    fn a_key_does_not_reach_whoever_has_the_node_afterwards() {
        let arena: Arena<i32, Pair> = Arena::default();
        let stale = arena.push_front(First, Rc::new(1));
        arena.remove(stale);
        assert!(!arena.move_to_front(stale, Second), "a free node");
        let key = arena.push_front(First, Rc::new(2));
        assert_eq!((stale.index, arena.nodes.borrow().len()), (key.index, 1), "the node is the same");
        assert_eq!(arena.list_of(stale), None);
        assert!(!arena.move_to_front(stale, Second));
        assert_eq!(arena.remove(stale), None);
        assert_eq!((content(&arena, First), arena.list_of(key)), (vec![2], Some(First)));
        assert_eq!(size_of::<Option<NodeKey>>(), size_of::<u64>());
    }

    #[test]
    fn every_list_has_a_number_of_its_own() {
        assert_eq!(Pair::ALL.iter().map(|list| list.index()).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(Only::ALL[0].index(), 0);
    }
}
