//! [`Local`]: what all threads share, held by a count of the thread's own.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// A thread's handle to a `T` of all threads. Cloned and dropped for every request, an `Arc` has the processors pass the
/// line with its count around; this writes to what the thread alone has.
pub struct Local<T: ?Sized>(Rc<Shared<T>>);

struct Shared<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Local<T> {
    /// The thread's first handle.
    pub fn new(shared: Arc<T>) -> Self {
        Local(Rc::new(Shared(shared)))
    }
}

impl<T: ?Sized> Clone for Local<T> {
    #[inline]
    fn clone(&self) -> Self {
        Local(self.0.clone())
    }
}

impl<T: ?Sized> Deref for Local<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_count_is_touched_once() {
        let shared = Arc::new(7);
        let local = Local::new(shared.clone());
        let many = vec![local.clone(); 10];
        assert_eq!((Arc::strong_count(&shared), *many[9]), (2, 7));
        drop((local, many));
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
