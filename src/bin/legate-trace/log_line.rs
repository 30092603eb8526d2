//! A line of a proxy's log, in the default format of Envoy 1.1 or 1.40, or of legate.
//!
//! `[date time][thread][level][component] [file:line] tags text`, where the tags are `[C0][S1]` in 1.1 and
//! legate and `[Tags: "ConnectionId":"0","StreamId":"1"]` in 1.40. The place in the source may be missing, as in 1.1.

/// A logged message; what follows on lines of its own belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// Line number in the file, from 1.
    pub number: usize,
    /// The kernel's thread id, or whatever `%t` printed.
    pub thread: String,
    /// `connection`, `http`, `pool`...
    pub component: String,
    /// The proxy's own connection id.
    pub conn: Option<String>,
    /// The proxy's own stream id.
    pub stream: Option<String>,
    /// What was said, without tags.
    pub text: String,
    /// The source file of `[file:line]`, if that is there.
    pub file: Option<String>,
    /// Whether it is of the level that `-l trace` adds.
    pub is_trace: bool,
}

/// Reads a whole log. A line that does not start like a message belongs to the message before if it is a header field or
/// blank; any other, such as an access log's, is left out.
pub fn parse(log: &str) -> Vec<LogLine> {
    let mut lines: Vec<LogLine> = Vec::new();
    for (index, text) in log.lines().enumerate() {
        if let Some(line) = parse_line(index + 1, text) {
            lines.push(line);
        } else if let Some(last) = lines.last_mut().filter(|_| text.is_empty() || is_field(text)) {
            last.text.push('\n');
            last.text.push_str(text);
        }
    }
    for line in &mut lines {
        line.text.truncate(line.text.trim_end_matches('\n').len());
    }
    lines
}

/// Whether it is `'name', 'value'`, as header lists are logged.
fn is_field(text: &str) -> bool {
    text.starts_with('\'') && text.ends_with('\'') && text.contains("', '")
}

fn parse_line(number: usize, text: &str) -> Option<LogLine> {
    let (time, rest) = bracketed(text)?;
    if !time.starts_with(|c: char| c.is_ascii_digit()) || !time.contains(':') {
        return None;
    }
    let (thread, rest) = bracketed(rest)?;
    let (level, rest) = bracketed(rest)?;
    let (component, rest) = bracketed(rest)?;
    let (file, rest) = place(rest.trim_start());
    let (conn, stream, text) = tags(rest);
    Some(LogLine {
        number,
        thread: thread.to_string(),
        component: component.to_string(),
        conn: conn.map(str::to_string),
        stream: stream.map(str::to_string),
        text: text.to_string(),
        file: file.map(str::to_string),
        is_trace: level == "trace",
    })
}

/// What stands between `[` at the start and the next `]`, and what follows.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.split_once(']')
}

/// The file of `[file:line]` at the start, and what follows.
fn place(text: &str) -> (Option<&str>, &str) {
    let file = |inside: &'_ str| {
        let (file, line) = inside.rsplit_once(':')?;
        let is_place = file.contains('.') && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit());
        is_place.then_some(file.len())
    };
    match bracketed(text).and_then(|(inside, rest)| Some((&inside[..file(inside)?], rest))) {
        Some((file, rest)) => (Some(file), rest.trim_start()),
        None => (None, text),
    }
}

fn tags(text: &str) -> (Option<&str>, Option<&str>, &str) {
    if let Some(rest) = text.strip_prefix("[Tags: ") {
        let (inside, rest) = rest.split_once("] ").unwrap_or((rest, ""));
        let value = |name: &str| {
            inside.split(',').find_map(|tag| {
                let (key, value) = tag.split_once(':')?;
                (key.trim_matches('"') == name).then(|| value.trim_matches('"'))
            })
        };
        return (value("ConnectionId"), value("StreamId"), rest);
    }
    let (conn, rest) = short_tag(text, 'C');
    let (stream, rest) = short_tag(rest, 'S');
    (conn, stream, rest.trim_start())
}

/// `[C12]` at the start.
fn short_tag(text: &str, letter: char) -> (Option<&str>, &str) {
    let number = |inside: &'_ str| inside.len() > 1 && inside[1..].bytes().all(|b| b.is_ascii_digit());
    match bracketed(text) {
        Some((inside, rest)) if inside.starts_with(letter) && number(inside) => (Some(&inside[1..]), rest),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> LogLine {
        let mut lines = parse(text);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    fn brief(line: &LogLine) -> (&str, &str, Option<&str>, Option<&str>, &str) {
        (&line.thread, &line.component, line.conn.as_deref(), line.stream.as_deref(), &line.text)
    }

    #[test]
    fn lines_of_each_version_are_read() {
        let line = one(
            r#"[2026-01-02 03:04:05.678][12][trace][http] [a/b.cc:77] [Tags: "ConnectionId":"3","StreamId":"99"] pool ready"#,
        );
        assert_eq!(brief(&line), ("12", "http", Some("3"), Some("99"), "pool ready"));
        assert!(line.is_trace);
        let line = one("[2019-01-02 03:04:05.678][12][debug][router] [source/a.cc:7] [C3][S99] pool ready");
        assert_eq!(brief(&line), ("12", "router", Some("3"), Some("99"), "pool ready"));
        let line = one("[2019-01-02 03:04:05.678][000012][debug][pool] [a.cc:7] creating");
        assert_eq!(brief(&line), ("000012", "pool", None, None, "creating"));
        let line = one("[2019-01-02 03:04:05.678][12][debug][pool] [C1] creating [C2] x");
        assert_eq!(brief(&line), ("12", "pool", Some("1"), None, "creating [C2] x"));
    }

    #[test]
    fn header_fields_belong_to_the_message_before() {
        let lines = parse(
            "started\n[2026-01-02 03:04:05.678][1][debug][http] [a.cc:7] headers:\n':path', '/'\n\n\
             [2026-01-02 03:04:05.678][1][debug][http] [a.rs:8] next\n[2026-01-02T03:04:05Z] \"GET / HTTP/1.1\" 200",
        );
        let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["headers:\n':path', '/'", "next"]);
        assert_eq!(lines[1].number, 5);
        assert_eq!(lines[1].file.as_deref(), Some("a.rs"));
    }
}
