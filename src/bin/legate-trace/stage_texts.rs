//! The table that tells which stage a log text stands for; the data is in `stage_texts.txt`.

use legate::trace::text_said_by;

use crate::log_line::LogLine;

const TABLE: &str = include_str!("stage_texts.txt");

/// Whose texts a log has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Dialect {
    /// Envoy as shipped with istio 1.1, and legate, which says the same.
    #[default]
    V1_1,
    /// Envoy 1.40.
    V1_40,
}

/// Where the events of a row belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The connection that the line is tagged with, or else the one that its thread was last at.
    Connection,
    /// The same, and the connection is one to a client.
    Downstream,
    /// The same, and the connection is one to an upstream.
    Upstream,
    /// The stream of the proxy's own that its thread was last at.
    Own,
    /// The worker's connection pools.
    Pool,
    /// The connection, and the pools as well.
    ConnectionAndPool,
    /// The connection, and the loop as well.
    ConnectionAndLoop,
    /// The worker's event loop.
    Loop,
    /// The loop, and the pools as well.
    PoolAndLoop,
    /// The main thread.
    Main,
    /// The start of the thread that says it.
    Start,
    /// It is no stage.
    None,
}

/// A stage and its texts.
#[derive(Debug)]
pub struct Row {
    /// `Class::method` as in Envoy 1.1 where it has it, and perhaps a word more to tell two texts apart.
    pub stage: String,
    /// Where it belongs.
    pub place: Place,
    components: Vec<String>,
    v1_1: Vec<Template>,
    v1_40: Vec<Template>,
}

/// The table.
#[derive(Default)]
pub struct StageTexts {
    rows: Vec<Row>,
}

/// Names of what was captured, and the values.
pub type Details = Vec<(String, String)>;

impl StageTexts {
    /// The built-in table.
    ///
    /// # Errors
    /// A line of it is not well-formed.
    pub fn built_in() -> Result<StageTexts, String> {
        StageTexts::parse(TABLE)
    }

    fn parse(table: &str) -> Result<StageTexts, String> {
        let mut rows = Vec::new();
        for (index, line) in table.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            rows.push(
                Row::parse(line).map_err(|what| format!("stage_texts.txt, line {}: {what}", index + 1))?,
            );
        }
        Ok(StageTexts { rows })
    }

    /// All rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row that a message belongs to, by index, and what it says in detail.
    pub fn find(&self, dialect: Dialect, line: &LogLine) -> Option<(usize, Details)> {
        self.rows.iter().enumerate().find_map(|(index, row)| {
            if !row.components.contains(&line.component) {
                return None;
            }
            let captures = |template: &Template| template.captures(&line.text);
            Some((index, row.templates(dialect).iter().find_map(captures)?))
        })
    }
}

impl Row {
    fn parse(line: &str) -> Result<Row, String> {
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [stage, place, components, old, new] = cells[..] else {
            return Err(format!("{} cells instead of 5", cells.len()));
        };
        let told = || text_said_by(stage).ok_or_else(|| format!("no stage '{stage}' has a text"));
        let old = if old == "@" { told()? } else { old };
        let templates = |cell: &str| match cell {
            "-" => Vec::new(),
            _ => cell.split(" || ").map(Template::new).collect(),
        };
        let new = if new == "=" { old } else { new };
        Ok(Row {
            stage: stage.to_string(),
            place: place_named(place)?,
            components: components.split(',').map(str::to_string).collect(),
            v1_1: templates(old),
            v1_40: templates(new),
        })
    }

    /// Its texts, as in the table.
    #[cfg(test)]
    pub fn texts(&self, dialect: Dialect) -> impl Iterator<Item = &str> {
        self.templates(dialect).iter().map(|template| template.text.as_str())
    }

    fn templates(&self, dialect: Dialect) -> &[Template] {
        match dialect {
            Dialect::V1_1 => &self.v1_1,
            Dialect::V1_40 => &self.v1_40,
        }
    }
}

fn place_named(name: &str) -> Result<Place, String> {
    Ok(match name {
        "conn" => Place::Connection,
        "down" => Place::Downstream,
        "up" => Place::Upstream,
        "own" => Place::Own,
        "pool" => Place::Pool,
        "conn&pool" => Place::ConnectionAndPool,
        "conn&loop" => Place::ConnectionAndLoop,
        "loop" => Place::Loop,
        "pool&loop" => Place::PoolAndLoop,
        "main" => Place::Main,
        "start" => Place::Start,
        "none" => Place::None,
        _ => return Err(format!("no place is called '{name}'")),
    })
}

/// A log text with holes: `{}` is skipped, `{name}` is a detail that both sides must share, `{headers}` is a
/// list of header fields.
#[derive(Debug)]
struct Template {
    #[cfg(test)]
    text: String,
    start: String,
    /// The name of each hole and the text behind it.
    holes: Vec<(String, String)>,
}

impl Template {
    fn new(text: &str) -> Template {
        let text = text.replace("\\n", "\n");
        let mut pieces = text.split('{');
        let start = pieces.next().unwrap_or_default().to_string();
        let holes = pieces
            .map(|piece| piece.split_once('}').unwrap_or((piece, "")))
            .map(|(name, after)| (name.to_string(), after.to_string()))
            .collect();
        Template {
            #[cfg(test)]
            text: text.clone(),
            start,
            holes,
        }
    }

    fn captures(&self, text: &str) -> Option<Details> {
        let mut rest = text.strip_prefix(&self.start)?;
        let mut details = Details::new();
        for (index, (name, after)) in self.holes.iter().enumerate() {
            let is_last = index + 1 == self.holes.len();
            let (value, behind) = if is_last {
                (rest.strip_suffix(after.as_str())?, "")
            } else {
                rest.split_once(after.as_str())?
            };
            rest = behind;
            let field = details.last().filter(|(key, _)| key == "key").map(|(_, field)| field.as_str());
            if !name.is_empty() {
                details.push((name.clone(), comparable(name, value.trim(), field)));
            }
        }
        (rest.is_empty()).then_some(details)
    }
}

/// Fields whose values differ from run to run.
const VOLATILE: [&str; 3] = ["date", "x-request-id", "x-envoy-upstream-service-time"];

fn is_volatile(field: &str) -> bool {
    VOLATILE.iter().any(|name| name.eq_ignore_ascii_case(field))
}

/// What a detail says, however it is written; `field` is the header field that a value belongs to.
fn comparable(name: &str, value: &str, field: Option<&str>) -> String {
    match name {
        "headers" => header_list(value),
        "value" if field.is_some_and(is_volatile) => "*".to_string(),
        "error" => error_text(value),
        _ => value.to_string(),
    }
}

/// Lines of `'name', 'value'` in their order, the volatile values left out.
fn header_list(lines: &str) -> String {
    let field = |line: &str| {
        let (name, value) = line.trim().split_once(", ")?;
        let (name, value) = (name.trim_matches('\''), value.trim_matches('\''));
        let value = if is_volatile(name) { "*" } else { value };
        Some(format!("{name}: {value}"))
    };
    let mut fields: Vec<String> = lines.lines().filter_map(field).collect();
    // Each version has a fixed order of its own for what the request line says.
    let of_request_line = fields.iter().take_while(|field| field.starts_with(':')).count();
    fields[..of_request_line].sort();
    fields.join(", ")
}

/// The system's text for an error that is logged as a number, or with its number.
fn error_text(error: &str) -> String {
    let text = match error.parse() {
        Ok(number) => std::io::Error::from_raw_os_error(number).to_string(),
        Err(_) => error.to_string(),
    };
    text.split_once(" (os error").map_or_else(|| text.clone(), |(text, _)| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(component: &str, text: &str) -> LogLine {
        LogLine {
            number: 1,
            thread: "1".into(),
            component: component.into(),
            conn: None,
            stream: None,
            text: text.into(),
            file: None,
            is_trace: false,
        }
    }

    #[test]
    fn the_built_in_table_is_well_formed() {
        let table = StageTexts::built_in().unwrap();
        assert!(table.rows.len() > 60);
        for row in &table.rows {
            assert!(!row.v1_1.is_empty() || !row.v1_40.is_empty(), "{} has no text", row.stage);
            assert!(row.place == Place::None || row.stage.contains("::"), "{} is no method", row.stage);
        }
        for (index, row) in table.rows.iter().enumerate() {
            let twin = table.rows[..index].iter().find(|r| r.stage == row.stage && r.place != Place::None);
            assert!(twin.is_none(), "{} is there twice", row.stage);
        }
    }

    #[test]
    fn texts_are_found_by_version_and_component() {
        let table = StageTexts::parse(
            "# stage\nA::read | conn | connection | read ready | read ready. buffered={}\n\
             A::bytes | conn | connection | read returns: {bytes} | =\n\
             A::head | conn | http,router | head (end={end}):\\n{headers} | =\n\
             A::gone | pool | pool | moving | -\n\
             A::field | conn | http | key={key} value={value} | =\n",
        )
        .unwrap();
        let find = |dialect, component, text| table.find(dialect, &line(component, text));
        assert_eq!(find(Dialect::V1_1, "connection", "read ready"), Some((0, vec![])));
        assert_eq!(find(Dialect::V1_40, "connection", "read ready. buffered=0"), Some((0, vec![])));
        assert_eq!(find(Dialect::V1_40, "connection", "read ready"), None);
        assert_eq!(find(Dialect::V1_40, "http", "read returns: 5"), None);
        let bytes = vec![("bytes".to_string(), "5".to_string())];
        assert_eq!(find(Dialect::V1_40, "connection", "read returns: 5"), Some((1, bytes)));
        let head = "head (end=true):\n':status', '200'\n'date', 'Mon, 1'\n'a', 'b, c'";
        let details = find(Dialect::V1_1, "router", head).unwrap().1;
        assert_eq!(details[0].1, "true");
        assert_eq!(details[1].1, ":status: 200, date: *, a: b, c");
        let field = |text| find(Dialect::V1_40, "http", text).unwrap().1[1].1.clone();
        assert_eq!((field("key=Date value=Mon, 1"), field("key=Dates value=1")), ("*".into(), "1".into()));
        assert_eq!(find(Dialect::V1_40, "pool", "moving"), None);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = StageTexts::parse("# x\nA::b | conn | http | text").err().unwrap();
        assert_eq!(error, "stage_texts.txt, line 2: 4 cells instead of 5");
        let error = StageTexts::parse("A::b | here | http | text | =").err().unwrap();
        assert_eq!(error, "stage_texts.txt, line 1: no place is called 'here'");
    }
}
