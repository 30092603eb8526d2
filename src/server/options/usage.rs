//! The help text, the version text and the text of a syntax error, laid out as TCLAP does.

use super::table::{Spec, TABLE};
use crate::server::version;

/// Where lines are broken.
const WIDTH: usize = 75;

/// `--help`.
pub(super) fn help(program: &str) -> String {
    let mut text = format!("\nUSAGE: \n\n{}\n\nWhere: \n\n", brief(program));
    for spec in supported() {
        let short = spec.short.map(|c| format!("-{c}{},  ", value_suffix(spec))).unwrap_or_default();
        text.push_str(&format!(
            "   {short}--{}{}\n{}\n",
            spec.long,
            value_suffix(spec),
            wrap(spec.help, 5, 0)
        ));
    }
    text.push_str("   --,  --ignore_rest\n     Ignore all that follows\n\n\n   legate\n\n");
    text
}

/// `--version`.
pub(super) fn version(program: &str) -> String {
    format!("\n{program}  version: {}\n\n", version::version())
}

/// An error found while reading `argument`.
pub(super) fn parse_error(program: &str, argument: &str, problem: &str) -> String {
    format!(
        "PARSE ERROR: Argument: {argument}\n             {problem}\n\nBrief USAGE: \n{}\n\
         For complete USAGE and HELP type: \n   {program} --help\n\n{argument} -- {problem}\n",
        brief(program)
    )
}

fn supported() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().filter(|spec| spec.kind.supported())
}

fn value_suffix(spec: &Spec) -> String {
    spec.kind.value_name().map(|name| format!(" <{name}>")).unwrap_or_default()
}

/// All options in brackets.
fn brief(program: &str) -> String {
    let options = supported().map(|spec| {
        let name = spec.short.map_or_else(|| format!("--{}", spec.long), |c| format!("-{c}"));
        format!("[{name}{}]", value_suffix(spec))
    });
    let options: Vec<String> = options.chain(["[--]".to_string()]).collect();
    let text = format!("{program}  {}", options.join(" "));
    wrap(&text, 3, (program.len() + 2).min(WIDTH / 2))
}

/// Breaks the lines of `text` between words; all lines but the first are indented by `hanging` more.
fn wrap(text: &str, indent: usize, hanging: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let indent = if lines.is_empty() { indent } else { indent + hanging };
            if !line.is_empty() && indent + line.len() + 1 + word.len() > WIDTH {
                lines.push(" ".repeat(indent) + &line);
                line.clear();
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let indent = if lines.is_empty() { indent } else { indent + hanging };
        lines.push((" ".repeat(indent) + &line).trim_end().to_string());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_what_is_supported() {
        let help = help("/usr/bin/legate");
        assert!(help.starts_with("\nUSAGE: \n\n   /usr/bin/legate  [--demo] "), "{help}");
        assert!(help.contains("\n   -c <string>,  --config-path <string>\n     Path of the "), "{help}");
        assert!(help.contains("\n   --concurrency <uint32_t>\n     Number of worker threads\n\n"), "{help}");
        assert!(!help.contains("stats-tag"), "{help}");
        assert!(help.lines().all(|line| line.len() <= WIDTH), "{help}");
    }

    #[test]
    fn a_syntax_error_has_a_brief_usage() {
        let error = parse_error("legate", "--bogus", "Couldn't find match for argument");
        let start = "PARSE ERROR: Argument: --bogus\n             Couldn't find match for argument\n\n\
                     Brief USAGE: \n   legate  [--demo] ";
        assert!(error.starts_with(start), "{error}");
        let end = " [--version] [-h] [--]\n\nFor complete USAGE and HELP type: \n   legate --help\n\n\
                   --bogus -- Couldn't find match for argument\n";
        assert!(error.ends_with(end), "{error}");
    }

    #[test]
    fn the_version_follows_the_name_of_the_program() {
        assert_eq!(version("legate"), format!("\nlegate  version: {}\n\n", version::version()));
    }

    #[test]
    fn text_is_broken_between_words() {
        let words = ["word"; 20].join(" ");
        let wrapped = wrap(&words, 3, 4);
        let lines: Vec<&str> = wrapped.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("   word") && lines[1].starts_with("       word"));
        assert_eq!(lines[0].len(), 3 + 14 * 5 - 1);
        assert_eq!(wrap("a\n\nb", 1, 0), " a\n\n b\n");
    }
}
