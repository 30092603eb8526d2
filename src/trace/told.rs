//! Stages at which Envoy logs something: their row has the text, and one call logs and records them.
//!
//! [`stage!`] is for both; [`log_stage!`] logs only, where what is recorded is known later, or of a connection that the
//! text does not name. Both take the values under the names that the text and the stage's details have for them; a name
//! that is missing, or in another order than the table's, does not compile.

use std::fmt::{self, Display};

use super::StageInfo;
use crate::logger::{self, Id, Level, Location};

/// What a text begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// With nothing.
    Nobodys,
    /// With the id of the connection.
    Connections,
    /// With the ids of the connection and of the stream.
    Streams,
}

/// What is logged at a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageLog {
    /// The component that says it.
    pub component: Id,
    /// How loud.
    pub level: Level,
    /// Of whom.
    pub whose: Whose,
    /// The text, with a name in braces for each value.
    pub text: &'static str,
    /// The method of Envoy that says it, where that is not the stage's.
    pub said_by: Option<&'static str>,
}

/// A value of a text and a detail.
pub(crate) trait Detail: Display + Copy {
    /// As it is recorded.
    fn detail(self) -> u64;
}

macro_rules! details {
    ($($type:ty)+) => {
        $(impl Detail for $type {
            #[inline(always)]
            fn detail(self) -> u64 {
                self as u64
            }
        })+
    };
}

details! { bool u32 u64 usize }

/// A text whose values are filled in.
struct Filled<'a> {
    ids: (Whose, u64, u64),
    text: &'static str,
    values: &'a [(&'static str, &'a dyn Display)],
}

impl Display for Filled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ids {
            (Whose::Nobodys, ..) => {}
            (Whose::Connections, conn, _) => write!(f, "[C{conn}] ")?,
            (Whose::Streams, conn, stream) => write!(f, "[C{conn}][S{stream}] ")?,
        }
        let mut pieces = self.text.split('{');
        f.write_str(pieces.next().unwrap_or_default())?;
        for (name, after) in pieces.filter_map(|piece| piece.split_once('}')) {
            if let Some((_, value)) = self.values.iter().find(|(of, _)| *of == name) {
                value.fmt(f)?;
            }
            f.write_str(after)?;
        }
        Ok(())
    }
}

/// Writes the line of a stage.
#[cold]
#[inline(never)]
pub(crate) fn write(
    log: &StageLog,
    place: Location,
    (conn, stream): (u64, u64),
    values: &[(&'static str, &dyn Display)],
) {
    let filled = Filled { ids: (log.whose, conn, stream), text: log.text, values };
    logger::write(log.component, log.level, place, format_args!("{filled}"));
}

/// The stage's text, if it has one that these names, in this order, fill in; for the compiler to ask.
pub(crate) const fn text_of(info: &StageInfo, names: &[&str], ids: &[&str]) -> StageLog {
    let Some(log) = info.log else { panic!("nothing is logged at this stage") };
    assert!(ids.len() >= log.whose as usize, "the text begins with more ids");
    let text = log.text.as_bytes();
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'{' {
            let mut found = false;
            let mut i = 0;
            while i < names.len() {
                found |= is_at(text, at + 1, names[i].as_bytes(), b'}');
                i += 1;
            }
            assert!(found, "the text has a value of another name");
        }
        at += 1;
    }
    log
}

/// Checks that the details have these names, in this order.
pub(crate) const fn check_details(info: &StageInfo, names: &[&str]) {
    let details = info.details.as_bytes();
    let (mut at, mut i) = (0, 0);
    while i < names.len() {
        let name = names[i].as_bytes();
        let end = if i + 1 == names.len() { 0 } else { b' ' };
        assert!(is_at(details, at, name, end), "the details have other names");
        at += name.len() + 1;
        i += 1;
    }
    assert!(!names.is_empty() || details.is_empty(), "a detail is missing");
}

/// Whether the text has the word there, and `end` behind it; 0 is the end of the text.
const fn is_at(text: &[u8], at: usize, word: &[u8], end: u8) -> bool {
    let behind = at + word.len();
    if behind > text.len() || (behind == text.len()) != (end == 0) {
        return false;
    }
    let mut i = 0;
    while i < word.len() {
        if text[at + i] != word[i] {
            return false;
        }
        i += 1;
    }
    end == 0 || text[behind] == end
}

/// Up to two ids, of a connection and of a stream.
#[inline(always)]
pub(crate) fn ids<const N: usize>(ids: [u64; N]) -> (u64, u64) {
    let of = |index: usize| ids.get(index).copied().unwrap_or_default();
    (of(0), of(1))
}

/// A detail as it is recorded; its name has been checked.
#[inline(always)]
pub(crate) fn detail(_name: &str, value: impl Detail) -> u64 {
    value.detail()
}

/// Logs what the table has for a stage: `log_stage!(NewStream(connection_id))`, `log_stage!(NewPendingRequest())`,
/// `log_stage!(DoRead(id), bytes = read)`.
macro_rules! log_stage {
    ($stage:ident($($id:expr),*) $(, $name:ident = $value:expr)*) => {
        $crate::trace::log_stage!(@ $stage [$($id),*] ($crate::trace::told::ids([$($id),*])) $($name = $value,)*)
    };
    (@ $stage:ident [$($id:expr),*] $ids:tt $($name:ident = $value:expr,)*) => {{
        const LOG: $crate::trace::StageLog = $crate::trace::told::text_of(
            &$crate::trace::STAGES[$crate::trace::Stage::$stage as usize],
            &[$(stringify!($name)),*],
            &[$(stringify!($id)),*],
        );
        if $crate::logger::enabled(LOG.component, LOG.level) {
            $crate::trace::told::write(
                &LOG,
                $crate::logger::Location { file: file!(), line: line!(), module: module_path!() },
                $ids,
                &[$((stringify!($name), &$value)),*],
            );
        }
    }};
}

/// Logs and records a stage, once or, with `scope`, as what ends when the result is dropped:
/// `stage!(Write(self.id), bytes = data.len(), end = end_stream)`. Values behind `;` are only logged.
macro_rules! stage {
    (scope $stage:ident $($rest:tt)+) => { $crate::trace::stage!(@ scope $stage $($rest)+) };
    ($stage:ident $($rest:tt)+) => { $crate::trace::stage!(@ instant $stage $($rest)+) };
    (@ $record:ident $stage:ident($($id:expr),+) $(, $a:ident = $value_a:expr $(, $b:ident = $value_b:expr)?)?
        $(; $($more:ident = $value:expr),+)?) => {{
        const _: () = $crate::trace::told::check_details(
            &$crate::trace::STAGES[$crate::trace::Stage::$stage as usize],
            &[$(stringify!($a), $(stringify!($b))?)?],
        );
        let (conn, stream) = $crate::trace::told::ids([$($id),+]);
        $(let a = $value_a; $(let b = $value_b;)?)?
        $crate::trace::log_stage!(@ $stage [$($id),+] (conn, stream)
            $($a = a, $($b = b,)?)? $($($more = $value,)+)?);
        $crate::trace::$record(
            $crate::trace::Stage::$stage,
            Some(conn),
            stream,
            0 $(| $crate::trace::told::detail(stringify!($a), a))?,
            0 $($(| $crate::trace::told::detail(stringify!($b), b))?)?,
        )
    }};
}

pub(crate) use {log_stage, stage};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{STAGES, Stage};

    #[test]
    fn a_text_is_filled_in_by_name() {
        let values: [(&str, &dyn Display); 2] = [("end", &true), ("bytes", &12)];
        let fill = |whose, text| Filled { ids: (whose, 7, 9), text, values: &values }.to_string();
        let text = "writing {bytes} bytes, end_stream {end}";
        assert_eq!(fill(Whose::Nobodys, text), "writing 12 bytes, end_stream true");
        assert_eq!(fill(Whose::Connections, "new"), "[C7] new");
        assert_eq!(fill(Whose::Streams, "{bytes}:\n{end}"), "[C7][S9] 12:\ntrue");
    }

    #[test]
    fn names_are_held_against_the_table() {
        let write = &STAGES[Stage::Write as usize];
        assert_eq!(text_of(write, &["end", "bytes"], &["id"]), write.log.expect("it is logged"));
        check_details(write, &["bytes", "end"]);
        let fails = |stage: Stage, names: &[&str], ids: &[&str]| {
            std::panic::catch_unwind(|| text_of(&STAGES[stage as usize], names, ids)).is_err()
        };
        assert!(fails(Stage::Write, &["bytes"], &["id"]));
        assert!(fails(Stage::Write, &["bytes", "end"], &[]));
        assert!(fails(Stage::OnAccept, &[], &["id", "id"]));
        for wrong in [&["end", "bytes"][..], &["bytes"], &["bytes", "end", "more"], &["byte", "end"]] {
            let checked = std::panic::catch_unwind(|| check_details(&STAGES[Stage::Write as usize], wrong));
            assert!(checked.is_err(), "{wrong:?}");
        }
    }
}
