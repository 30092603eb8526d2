//! Runs sources of legate in many orders of their threads, and with each value that the memory model lets a thread see.
//!
//! `loom` takes the place of the standard library's atomics and locks there. The models stand beside what they are of, behind
//! `cfg(loom)`, which is set in this crate alone; a source says `crate::trace` and finds the one below.
#![cfg(test)]

#[path = "../../../src/event/post_queue.rs"]
mod post_queue;
#[path = "../../../src/trace/ring.rs"]
#[allow(dead_code)]
mod ring;

/// The recorder, which is off.
mod trace {
    pub enum Stage {
        Post,
        RunPostCallbacks,
    }

    pub fn instant(_stage: Stage, _conn: Option<u64>, _stream: u64, _a: u64, _b: u64) {}

    pub fn scope(_stage: Stage, _conn: Option<u64>, _stream: u64, _a: u64, _b: u64) {}
}
