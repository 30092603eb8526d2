//! Lists whose items move between them in constant time.
//!
//! Mirrors Envoy's `source/common/common/linked_object.h`: an item knows its place, so it can leave
//! from the middle, and new items go to the front. Envoy threads the links through the items; here
//! the lists of one owner share an arena of nodes, and an item keeps its node's key.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

const NIL: u32 = u32::MAX;

/// The place of an item in an [`Arena`]; stays valid when the item moves between lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeKey(u32);

struct Node<T> {
    /// `None` for a free node.
    item: Option<Rc<T>>,
    list: u8,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct List {
    front: u32,
    back: u32,
    length: usize,
}

/// `N` lists of `Rc<T>`, numbered from 0.
pub struct Arena<T, const N: usize> {
    nodes: RefCell<Vec<Node<T>>>,
    free: Cell<u32>,
    lists: [Cell<List>; N],
}

impl<T, const N: usize> Default for Arena<T, N> {
    fn default() -> Self {
        Arena {
            nodes: RefCell::default(),
            free: Cell::new(NIL),
            lists: std::array::from_fn(|_| Cell::new(List { front: NIL, back: NIL, length: 0 })),
        }
    }
}

impl<T, const N: usize> Arena<T, N> {
    /// Items in a list.
    pub fn len(&self, list: usize) -> usize {
        self.lists[list].get().length
    }

    /// Whether a list has no items.
    pub fn is_empty(&self, list: usize) -> bool {
        self.len(list) == 0
    }

    /// The first item.
    pub fn front(&self, list: usize) -> Option<Rc<T>> {
        self.item(self.lists[list].get().front)
    }

    /// The last item.
    pub fn back(&self, list: usize) -> Option<Rc<T>> {
        self.item(self.lists[list].get().back)
    }

    fn item(&self, index: u32) -> Option<Rc<T>> {
        self.nodes.borrow().get(index as usize).and_then(|n| n.item.clone())
    }

    /// All items of a list, front first.
    pub fn items(&self, list: usize) -> Vec<Rc<T>> {
        let nodes = self.nodes.borrow();
        let mut items = Vec::with_capacity(self.len(list));
        let mut at = self.lists[list].get().front;
        while let Some(node) = nodes.get(at as usize) {
            items.extend(node.item.clone());
            at = node.next;
        }
        items
    }

    /// Puts an item at the front of a list (Envoy: `moveIntoList`).
    pub fn push_front(&self, list: usize, item: Rc<T>) -> NodeKey {
        let mut nodes = self.nodes.borrow_mut();
        let node = Node { item: Some(item), list: list as u8, previous: NIL, next: NIL };
        let index = self.free.get();
        let index = if index == NIL {
            nodes.push(node);
            (nodes.len() - 1) as u32
        } else {
            self.free.set(nodes[index as usize].next);
            nodes[index as usize] = node;
            index
        };
        self.link_front(&mut nodes, list, index);
        NodeKey(index)
    }

    /// Moves an item to the front of a list (Envoy: `moveBetweenLists`).
    pub fn move_to_front(&self, key: NodeKey, list: usize) {
        let mut nodes = self.nodes.borrow_mut();
        debug_assert!(nodes[key.0 as usize].item.is_some());
        self.unlink(&mut nodes, key.0);
        nodes[key.0 as usize].list = list as u8;
        self.link_front(&mut nodes, list, key.0);
    }

    /// Takes an item out of its list (Envoy: `removeFromList`); `None` when it was taken out before.
    pub fn remove(&self, key: NodeKey) -> Option<Rc<T>> {
        let mut nodes = self.nodes.borrow_mut();
        let item = nodes.get_mut(key.0 as usize)?.item.take()?;
        self.unlink(&mut nodes, key.0);
        nodes[key.0 as usize].next = self.free.replace(key.0);
        Some(item)
    }

    /// The number of the list that an item is in.
    pub fn list_of(&self, key: NodeKey) -> Option<usize> {
        self.nodes.borrow().get(key.0 as usize).filter(|n| n.item.is_some()).map(|n| n.list as usize)
    }

    fn link_front(&self, nodes: &mut [Node<T>], list: usize, index: u32) {
        let mut ends = self.lists[list].get();
        nodes[index as usize].previous = NIL;
        nodes[index as usize].next = ends.front;
        match nodes.get_mut(ends.front as usize) {
            Some(old_front) => old_front.previous = index,
            None => ends.back = index,
        }
        ends.front = index;
        ends.length += 1;
        self.lists[list].set(ends);
    }

    fn unlink(&self, nodes: &mut [Node<T>], index: u32) {
        let Node { list, previous, next, .. } = nodes[index as usize];
        let mut ends = self.lists[list as usize].get();
        match nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => ends.front = next,
        }
        match nodes.get_mut(next as usize) {
            Some(node) => node.previous = previous,
            None => ends.back = previous,
        }
        ends.length -= 1;
        self.lists[list as usize].set(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(arena: &Arena<i32, 2>, list: usize) -> Vec<i32> {
        arena.items(list).iter().map(|i| **i).collect()
    }

    #[test]
    fn items_go_to_the_front_and_leave_from_anywhere() {
        let arena: Arena<i32, 2> = Arena::default();
        let keys: Vec<NodeKey> = (0..4).map(|i| arena.push_front(0, Rc::new(i))).collect();
        assert_eq!(content(&arena, 0), [3, 2, 1, 0]);
        assert_eq!((arena.front(0).as_deref(), arena.back(0).as_deref()), (Some(&3), Some(&0)));
        assert_eq!(arena.remove(keys[2]).as_deref(), Some(&2));
        assert_eq!(arena.remove(keys[2]), None);
        arena.remove(keys[0]);
        arena.remove(keys[3]);
        assert_eq!(content(&arena, 0), [1]);
        arena.remove(keys[1]);
        assert!(arena.is_empty(0) && arena.front(0).is_none() && arena.back(0).is_none());
    }

    #[test]
    fn items_move_between_lists_and_keep_their_keys() {
        let arena: Arena<i32, 2> = Arena::default();
        let a = arena.push_front(0, Rc::new(1));
        arena.push_front(0, Rc::new(2));
        arena.push_front(1, Rc::new(3));
        arena.move_to_front(a, 1);
        assert_eq!((content(&arena, 0), content(&arena, 1)), (vec![2], vec![1, 3]));
        assert_eq!(arena.list_of(a), Some(1));
        arena.move_to_front(a, 0);
        assert_eq!((content(&arena, 0), content(&arena, 1)), (vec![1, 2], vec![3]));
        assert_eq!((arena.len(0), arena.len(1)), (2, 1));
    }

    #[test]
    fn nodes_are_used_again() {
        let arena: Arena<i32, 1> = Arena::default();
        for i in 0..100 {
            let key = arena.push_front(0, Rc::new(i));
            arena.remove(key);
        }
        assert_eq!(arena.nodes.borrow().len(), 1);
    }
}
