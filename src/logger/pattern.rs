//! `--log-format`: the patterns of spdlog, with Envoy's additions.
//!
//! A flag is `%`, an optional alignment and width (`%8l` pads on the left, `%-8l` on the right, `%=8l`
//! on both sides, `%8!l` also cuts), and a letter. Unknown flags are printed as they are. Colours (`%^`,
//! `%$`) print nothing.

use std::borrow::Cow;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use super::Level;
use super::escape::{c_escape, json_escape};
use crate::common::UtcTime;

/// All flags that print something.
const FLAGS: &str = "YmdHMSTXeFftlLnvgs@#!P%DxzEiuoO_j+aAbhBcCIpRr";

/// Flags known to print nothing: colours, and tags, which messages here have none of.
const SILENT_FLAGS: &str = "^$*";

/// The widest padding.
const MAX_WIDTH: usize = 64;

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) time: SystemTime,
    pub(super) thread: i32,
    pub(super) level: Level,
    pub(super) component: &'a str,
    /// Empty if unknown, as is `module`.
    pub(super) file: &'a str,
    pub(super) line: Option<u32>,
    pub(super) module: &'a str,
    pub(super) message: Cow<'a, str>,
}

/// A parsed format.
pub(super) struct Pattern {
    items: Vec<Item>,
    escaped: bool,
    /// When the previous line was formatted, in nanoseconds since the epoch.
    previous: AtomicU64,
}

enum Item {
    Text(String),
    Flag { letter: char, padding: Padding },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Align {
    Left,
    Right,
    Centre,
}

#[derive(Clone, Copy)]
struct Padding {
    align: Align,
    /// In characters; 0 for none.
    width: usize,
    cut: bool,
}

impl Pattern {
    /// Any format is valid. With `escaped`, each line is written with C escapes.
    pub(super) fn new(format: &str, escaped: bool) -> Self {
        let mut items = Vec::new();
        let mut text = String::new();
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let padding = parse_padding(&mut chars);
            match chars.next() {
                Some(letter) if FLAGS.contains(letter) => {
                    items.push(Item::Text(std::mem::take(&mut text)));
                    items.push(Item::Flag { letter, padding });
                }
                Some(letter) if SILENT_FLAGS.contains(letter) => {}
                Some(letter) => text.extend(['%', letter]),
                None => {}
            }
        }
        items.push(Item::Text(text));
        Pattern { items, escaped, previous: AtomicU64::new(nanoseconds(SystemTime::now())) }
    }

    /// The line with its newline.
    pub(super) fn format(&self, line: &Line) -> String {
        let clock = UtcTime::new(line.time);
        let now = nanoseconds(line.time);
        let elapsed = now.saturating_sub(self.previous.swap(now, Relaxed));
        let mut out = String::with_capacity(128 + line.message.len());
        for item in &self.items {
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Flag { letter, padding } => {
                    padding.write(&mut out, &flag(*letter, line, &clock, elapsed))
                }
            }
        }
        if self.escaped {
            let end = out.trim_end().len();
            out = c_escape(&out[..end]) + &out[end..];
        }
        out.push('\n');
        out
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    UtcTime::new(time).since_epoch.as_nanos() as u64
}

fn parse_padding(chars: &mut Peekable<Chars>) -> Padding {
    let align = match chars.peek() {
        Some('-') => Align::Left,
        Some('=') => Align::Centre,
        _ => Align::Right,
    };
    if align != Align::Right {
        chars.next();
    }
    let mut width = 0;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        width = (width * 10 + digit as usize).min(MAX_WIDTH);
        chars.next();
    }
    let cut = width > 0 && chars.next_if_eq(&'!').is_some();
    Padding { align, width, cut }
}

impl Padding {
    fn write(self, out: &mut String, value: &str) {
        if self.width == 0 {
            out.push_str(value);
            return;
        }
        let length = value.chars().count();
        if length > self.width && self.cut {
            out.extend(value.chars().take(self.width));
            return;
        }
        let width = self.width;
        let _ = match self.align {
            Align::Left => write!(out, "{value:<width$}"),
            Align::Right => write!(out, "{value:>width$}"),
            Align::Centre => write!(out, "{value:^width$}"),
        };
    }
}

fn flag<'a>(letter: char, line: &'a Line, clock: &UtcTime, elapsed: u64) -> Cow<'a, str> {
    match letter {
        'v' | '+' => Cow::Borrowed(line.message.as_ref()),
        '_' => line.message.replace('\n', "\\n").into(),
        'j' => json_escape(&line.message).into(),
        'l' => line.level.name().into(),
        'L' => line.level.letter().to_string().into(),
        'n' => line.component.into(),
        't' => line.thread.to_string().into(),
        'P' => std::process::id().to_string().into(),
        'g' => line.file.into(),
        's' => line.file.rsplit_once('/').map_or(line.file, |(_, name)| name).into(),
        '#' => line.line.map(|n| n.to_string()).unwrap_or_default().into(),
        '@' => line.line.map(|n| format!("{}:{n}", line.file)).unwrap_or_default().into(),
        '!' => line.module.into(),
        'u' => elapsed.to_string().into(),
        'i' => (elapsed / 1000).to_string().into(),
        'o' => (elapsed / 1_000_000).to_string().into(),
        'O' => (elapsed / 1_000_000_000).to_string().into(),
        '%' => "%".into(),
        _ => time_flag(letter, clock).into(),
    }
}

fn time_flag(letter: char, clock: &UtcTime) -> String {
    let UtcTime { year, month, day, minute, second, nanosecond, .. } = clock;
    let (hour, hour12, am_pm, short_year) = (clock.hour, clock.hour12(), clock.am_pm(), year % 100);
    let (month_name, weekday) = (clock.month_name(), clock.weekday_name());
    match letter {
        'Y' => format!("{year}"),
        'C' => format!("{short_year:02}"),
        'm' => format!("{month:02}"),
        'd' => format!("{day:02}"),
        'H' => format!("{hour:02}"),
        'I' => format!("{hour12:02}"),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'T' | 'X' => format!("{hour:02}:{minute:02}:{second:02}"),
        'R' => format!("{hour:02}:{minute:02}"),
        'r' => format!("{hour12:02}:{minute:02}:{second:02} {am_pm}"),
        'p' => am_pm.to_string(),
        'D' | 'x' => format!("{month:02}/{day:02}/{short_year:02}"),
        'a' => weekday[..3].to_string(),
        'A' => weekday.to_string(),
        'b' | 'h' => month_name[..3].to_string(),
        'B' => month_name.to_string(),
        'c' => {
            let (weekday, month_name) = (&weekday[..3], &month_name[..3]);
            format!("{weekday} {month_name} {day} {hour:02}:{minute:02}:{second:02} {year}")
        }
        'z' => "+00:00".to_string(),
        'E' => clock.since_epoch.as_secs().to_string(),
        'e' => format!("{:03}", nanosecond / 1_000_000),
        'f' => format!("{:06}", nanosecond / 1000),
        'F' => format!("{nanosecond:09}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn line(message: &str) -> Line<'_> {
        Line {
            time: UNIX_EPOCH + Duration::new(1_795_395_641, 7_008_009),
            thread: 42,
            level: Level::Warn,
            component: "pool",
            file: "http/http1/conn_pool.rs",
            line: Some(123),
            module: "legate::http::http1::conn_pool",
            message: message.into(),
        }
    }

    fn format(pattern: &str) -> String {
        Pattern::new(pattern, false).format(&line("a 'b'\nc"))
    }

    #[test]
    fn the_default_format_is_that_of_envoy() {
        assert_eq!(
            Pattern::new(super::super::DEFAULT_FORMAT, false).format(&line("hello")),
            "[2026-11-23 01:00:41.007][42][warning][pool] [http/http1/conn_pool.rs:123] hello\n"
        );
    }

    /// The expected texts of dates are what Envoy 1.40 prints.
    #[test]
    fn dates_and_times() {
        assert_eq!(
            format("%Y %m %d %H %M %S %T|%e|%f|%F"),
            "2026 11 23 01 00 41 01:00:41|007|007008|007008009\n"
        );
        assert_eq!(format("%D|%x|%z|%E"), "11/23/26|11/23/26|+00:00|1795395641\n");
        assert_eq!(
            format("%a|%A|%b|%h|%B|%C|%I|%p|%r|%R|%X"),
            "Mon|Monday|Nov|Nov|November|26|01|AM|01:00:41 AM|01:00|01:00:41\n"
        );
        assert_eq!(format("%c"), "Mon Nov 23 01:00:41 2026\n");
    }

    #[test]
    fn sources_levels_and_names() {
        assert_eq!(
            format("%g|%#|%@|%s"),
            "http/http1/conn_pool.rs|123|http/http1/conn_pool.rs:123|conn_pool.rs\n"
        );
        assert_eq!(format("%l|%L|%n|%t|%!"), "warning|W|pool|42|legate::http::http1::conn_pool\n");
        assert_eq!(format("%P"), format!("{}\n", std::process::id()));
        let unknown = Line { file: "", line: None, ..line("") };
        assert_eq!(Pattern::new("%g|%#|%@|%s", false).format(&unknown), "|||\n");
    }

    #[test]
    fn messages_can_be_escaped() {
        assert_eq!(format("%v"), "a 'b'\nc\n");
        assert_eq!(format("%+"), "a 'b'\nc\n");
        assert_eq!(format("%_"), "a 'b'\\nc\n");
        assert_eq!(format("%j"), "a 'b'\\nc\n");
    }

    #[test]
    fn a_whole_line_can_be_escaped() {
        let pattern = Pattern::new("%l '%v'\t", true);
        assert_eq!(pattern.format(&line("x\ny")), "warning \\'x\\ny\\'\t\n");
    }

    #[test]
    fn the_time_since_the_previous_line() {
        let pattern = Pattern::new("%u %i %o %O", false);
        pattern.format(&line(""));
        let later = Line { time: line("").time + Duration::from_nanos(3_004_005_006), ..line("") };
        assert_eq!(pattern.format(&later), "3004005006 3004005 3004 3\n");
    }

    #[test]
    fn values_are_padded_and_cut() {
        assert_eq!(format("[%6n][%-6n][%=6n][%=7n]"), "[  pool][pool  ][ pool ][ pool  ]\n");
        assert_eq!(format("[%2n][%2!n][%6!n][%-n]"), "[pool][po][  pool][pool]\n");
        assert_eq!(format("%999n").len(), MAX_WIDTH + 1);
    }

    #[test]
    fn other_text_is_kept() {
        assert_eq!(format("100%% %K é%^%v%$%*"), "100% %K éa 'b'\nc\n");
        assert_eq!(format("x%"), "x\n");
        assert_eq!(format(""), "\n");
    }
}
