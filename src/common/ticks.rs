//! A clock that costs next to nothing to read, for the recorder of stages.
#![allow(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
use std::time::Instant;

/// A counter that is quick to read and ticks evenly on all processors; its rate is nobody's promise, but 45 bits of
/// it last for a day.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() / 16 }
}

/// A counter that is quick to read and ticks evenly on all processors; its rate is nobody's promise, but 45 bits of
/// it last for a day.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    use std::sync::OnceLock;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64 / 16
}
