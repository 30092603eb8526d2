//! Regular expressions: those that RE2 takes, and its words for what is wrong with the others.
//!
//! Mirrors `Regex::Utility::parseRegex` of Envoy's `source/common/common/regex.cc`, which is RE2 there.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, ErrorKind, Span};

/// What a compiled expression may take: a client of the admin must not keep the main thread busy.
const MAX_SIZE: usize = 1 << 20;
/// How often something may have to be there, as in RE2.
const MAX_REPETITIONS: u32 = 1000;

/// Compiles an expression that a part of a text has to match; the error is RE2's text.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let pattern = check(pattern)?;
    build(&pattern, &pattern)
}

/// Compiles an expression that a whole text has to match; the error is RE2's text.
pub fn compile_whole(pattern: &str) -> Result<Regex, String> {
    let pattern = check(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"), &pattern)
}

/// The expression as the library that stands behind it has to have it, if RE2 takes it; the error is RE2's text.
pub fn check(pattern: &str) -> Result<String, String> {
    let pattern = escape_literal_braces(pattern);
    let ast = ast::parse::Parser::new().parse(&pattern).map_err(|e| words(&e, &pattern))?;
    check_repetitions(&ast, MAX_REPETITIONS, &pattern)?;
    Ok(pattern)
}

/// Compiles `whole`, which was made of `pattern`.
fn build(whole: &str, pattern: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(whole);
    builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "pattern too large - compile failed".to_string(),
        // What is left is a class that does not exist.
        _ => format!("invalid character class range: {}", first_class(pattern)),
    })
}

/// A brace that cannot be a number of repetitions stands for itself.
fn escape_literal_braces(pattern: &str) -> String {
    let mut result = String::with_capacity(pattern.len());
    let mut before = ['\0'; 2];
    for (at, c) in pattern.char_indices() {
        let belongs_to_escape = before[0] == '\\' && matches!(before[1], 'p' | 'P' | 'x');
        if c == '{' && before[1] != '\\' && !belongs_to_escape && !is_repetition(&pattern[at..]) {
            result.push('\\');
        }
        result.push(c);
        // An escaped backslash escapes nothing.
        before = if before[1] == '\\' && c == '\\' { ['\0'; 2] } else { [before[1], c] };
    }
    result
}

fn is_repetition(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (min, max) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !min.is_empty() && digits(min) && digits(max)
}

/// No more than `left` in all, also of repetitions in repetitions.
fn check_repetitions(ast: &Ast, left: u32, pattern: &str) -> Result<(), String> {
    match ast {
        Ast::Repetition(repetition) => {
            let operator = &repetition.op;
            if let Ast::Repetition(inner) = &*repetition.ast {
                check_repetitions(&repetition.ast, MAX_REPETITIONS, pattern)?;
                let both = Span::new(inner.op.span.start, operator.span.end);
                return Err(format!("bad repetition operator: {}", text(&both, pattern)));
            }
            let most = match &operator.kind {
                ast::RepetitionKind::Range(ast::RepetitionRange::Exactly(n)) => *n,
                ast::RepetitionKind::Range(ast::RepetitionRange::AtLeast(n)) => *n,
                ast::RepetitionKind::Range(ast::RepetitionRange::Bounded(_, n)) => *n,
                _ => 1,
            };
            if most > left {
                return Err(format!("invalid repetition size: {}", text(&operator.span, pattern)));
            }
            check_repetitions(&repetition.ast, left / most.max(1), pattern)
        }
        Ast::Group(group) => check_repetitions(&group.ast, left, pattern),
        Ast::Alternation(inner) => {
            inner.asts.iter().try_for_each(|ast| check_repetitions(ast, left, pattern))
        }
        Ast::Concat(inner) => inner.asts.iter().try_for_each(|ast| check_repetitions(ast, left, pattern)),
        _ => Ok(()),
    }
}

fn text<'a>(span: &Span, pattern: &'a str) -> &'a str {
    pattern.get(span.start.offset..span.end.offset).unwrap_or_default()
}

fn first_class(pattern: &str) -> &str {
    let start =
        pattern.find("\\p").or_else(|| pattern.find("\\P")).or_else(|| pattern.find('[')).unwrap_or(0);
    let end = pattern[start..].find(['}', ']']).map_or(pattern.len(), |length| start + length + 1);
    &pattern[start..end]
}

/// RE2's words.
fn words(error: &ast::Error, pattern: &str) -> String {
    let at = text(error.span(), pattern);
    let from = pattern.get(error.span().start.offset..).unwrap_or_default();
    match error.kind() {
        ErrorKind::GroupUnclosed => format!("missing ): {pattern}"),
        ErrorKind::GroupUnopened => format!("unexpected ): {pattern}"),
        ErrorKind::ClassUnclosed => format!("missing ]: {from}"),
        ErrorKind::ClassRangeInvalid | ErrorKind::ClassRangeLiteral => {
            format!("invalid character class range: {at}")
        }
        ErrorKind::RepetitionMissing => {
            format!("no argument for repetition operator: {}", from.chars().next().unwrap_or_default())
        }
        ErrorKind::RepetitionCountInvalid | ErrorKind::DecimalInvalid => {
            let start = pattern[..error.span().end.offset].rfind('{').unwrap_or(0);
            let end = pattern[start..].find('}').map_or(pattern.len(), |length| start + length + 1);
            format!("invalid repetition size: {}", &pattern[start..end])
        }
        ErrorKind::EscapeUnexpectedEof => "trailing \\".to_string(),
        ErrorKind::EscapeUnrecognized => format!("invalid escape sequence: {at}"),
        ErrorKind::FlagUnrecognized | ErrorKind::FlagUnexpectedEof | ErrorKind::UnsupportedLookAround => {
            let start = pattern[..error.span().end.offset].rfind("(?").unwrap_or(0);
            format!("invalid perl operator: {}", &pattern[start..error.span().end.offset])
        }
        ErrorKind::NestLimitExceeded(_) => "expression nested too deeply".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn error(pattern: &str) -> String {
        compile(pattern).err().unwrap_or_else(|| panic!("{pattern} is accepted"))
    }

    /// The texts are what Envoy 1.40 answers behind `Invalid re2 regex: `.
    #[test]
    fn errors_are_re2s() {
        for (pattern, text) in [
            ("(", "missing ): ("),
            (")", "unexpected ): )"),
            ("[", "missing ]: ["),
            ("[a", "missing ]: [a"),
            ("*", "no argument for repetition operator: *"),
            ("+", "no argument for repetition operator: +"),
            ("a**", "bad repetition operator: **"),
            ("\\q", "invalid escape sequence: \\q"),
            ("[b-a]", "invalid character class range: b-a"),
            ("\\", "trailing \\"),
            ("a{1001}", "invalid repetition size: {1001}"),
            ("x{2,1}", "invalid repetition size: {2,1}"),
            ("(a{100}){100}", "invalid repetition size: {100}"),
            ("(((a{100}){100}){100})", "invalid repetition size: {100}"),
            (".{0,100000}{0,1000}", "invalid repetition size: {0,100000}"),
            (".{900}{1}", "bad repetition operator: {900}{1}"),
            ("(?=x)", "invalid perl operator: (?="),
            ("(?z)", "invalid perl operator: (?z"),
            ("(?\u{e9})", "invalid perl operator: (?\u{e9}"),
            ("a(?i", "invalid perl operator: (?i"),
            ("a(?=x)", "invalid perl operator: (?="),
            ("\u{e9}{1001}", "invalid repetition size: {1001}"),
            ("\\p{Nope}", "invalid character class range: \\p{Nope}"),
        ] {
            assert_eq!(error(pattern), text, "{pattern}");
        }
    }

    #[test]
    fn what_re2_takes_is_taken() {
        for (pattern, name) in [
            ("(?i)SERVER.LIVE", "server.live"),
            ("\\pL+.live", "server.live"),
            ("\\p{Greek}", "\u{3b1}"),
            ("{live", "{live"),
            ("a{,5}", "a{,5}"),
            ("\\\\{x", "\\{x"),
            ("\\x{61}{2}", "aa"),
            ("^(a{10}){100}$", &"a".repeat(1000)),
        ] {
            assert!(compile(pattern).is_ok_and(|regex| regex.is_match(name)), "{pattern}");
        }
    }

    #[test]
    fn a_whole_text_is_matched_by_whichever_alternative_does() {
        let is_whole = |pattern, text| compile_whole(pattern).unwrap().is_match(text);
        for (pattern, text) in [("a|ab", "ab"), ("(?i)A|AB", "ab"), ("a*?", "aaa"), ("", "")] {
            assert!(is_whole(pattern, text), "{pattern}");
        }
        for (pattern, text) in [("a|b", "ab"), ("b", "abc"), ("a", "a\n"), ("(?m)^a$", "a\na"), ("", "a")] {
            assert!(!is_whole(pattern, text), "{pattern}");
        }
        for (pattern, text) in
            [(")|(", "unexpected ): )|("), ("\\p{Nope}", "invalid character class range: \\p{Nope}")]
        {
            assert_eq!(compile_whole(pattern).unwrap_err(), text);
        }
    }

    #[test]
    fn a_large_one_takes_little_time() {
        let start = Instant::now();
        assert_eq!(error(&r"[\pL\pN\w]{900}".repeat(50)), "pattern too large - compile failed");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(error(&"(".repeat(1000)), format!("missing ): {}", "(".repeat(1000)));
        let nested = format!("{}{}", "(".repeat(1000), ")".repeat(1000));
        assert_eq!(error(&nested), "expression nested too deeply");
    }
}
