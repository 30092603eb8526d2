//! Code and constants that the process has mapped, given back once they have served.
//!
//! Reading a configuration and building everything it asks for runs through most of the program, and each page that was run
//! stays in the process's resident memory, although it can be had again from its file at any time. No such thing in Envoy.
#![allow(unsafe_code)]

use std::fs;
use std::ops::Range;

/// Drops from resident memory what cannot be written of the program and its libraries: what is run or read again comes
/// back from the page cache, sixteen pages at a time. Costs half a millisecond; where the system does not tell what is
/// mapped, everything stays.
pub fn forget_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for pages in unwritten(&maps) {
        // SAFETY: what is mapped there is a file's contents alone, so that what is read again is what was read before.
        unsafe {
            libc::madvise(pages.start as *mut libc::c_void, pages.end - pages.start, libc::MADV_DONTNEED);
        }
    }
}

/// Mappings of files which cannot be written and have no page of their own, as a debugger's breakpoints make and the
/// loader's relocations.
fn unwritten(maps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in maps.lines() {
        if let Some(kilobytes) = line.strip_prefix("Anonymous:") {
            found.extend(mapping.take().filter(|_| kilobytes.trim() == "0 kB"));
        } else if !line.split(' ').next().is_some_and(|word| word.ends_with(':')) {
            mapping = file_mapping(line);
        }
    }
    found
}

/// The range of a mapping's first line, if it is of a file and not to be written.
fn file_mapping(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let path = words.nth(3)?;
    if permissions.contains('w') || permissions.contains('s') || !path.starts_with('/') {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00500000 r--p 00000000 fe:00 7 /usr/bin/legate\nSize: 1024 kB\nAnonymous:             0 kB\nVmFlags: rd\n\
00500000-00700000 r-xp 00100000 fe:00 7 /usr/bin/legate\nAnonymous:             0 kB\n\
00700000-00800000 r-xp 00200000 fe:00 7 /usr/bin/with a breakpoint\nAnonymous:             4 kB\n\
00800000-00900000 r--p 00300000 fe:00 7 /usr/bin/legate\nAnonymous:          1024 kB\n\
00900000-00a00000 rw-p 00300000 fe:00 7 /usr/bin/legate\nAnonymous:             0 kB\n\
00a00000-00b00000 r--s 00000000 fe:00 8 /dev/shm/recording\nAnonymous:             0 kB\n\
00b00000-00c00000 r--p 00000000 00:00 0 \nAnonymous:             0 kB\n\
00c00000-00d00000 r-xp 00000000 00:00 0                          [vdso]\nAnonymous:             0 kB\n";

    #[test]
    fn only_what_a_file_alone_stands_behind() {
        assert_eq!(unwritten(MAPS), [0x0040_0000..0x0050_0000, 0x0050_0000..0x0070_0000]);
    }

    #[test]
    fn what_was_forgotten_is_still_there() {
        let before = format!("{:?}", Some("text"));
        forget_code();
        assert_eq!(format!("{:?}", Some("text")), before);
    }
}
