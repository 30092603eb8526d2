//! Splits a format string into text and commands.
//!
//! Mirrors `SubstitutionFormatParser` of Envoy 1.40's `source/common/formatter/substitution_formatter.cc`;
//! the rules are those of its expression `%COMMAND(ARGUMENT):LENGTH%`, and the error texts are its own.

use std::sync::Arc;

use super::command_parser::{Command, CommandParser, FormatterProvider};
use super::operator::Operator;

/// A part of a line.
#[derive(Debug)]
pub(super) enum Piece {
    /// Printed as it is.
    Text(Box<str>),
    /// Printed from what is known of the stream.
    Command(Box<dyn FormatterProvider>),
}

/// Parses a format; `%%` is a percent sign. The commands are those of `parsers`, then the built-in ones.
///
/// # Errors
/// Envoy's text for a command that is not well formed, not known or not used as it must be.
pub(super) fn parse(format: &str, parsers: &[Arc<dyn CommandParser>]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut position = 0;
    while let Some(percent) = format[position..].find('%').map(|offset| position + offset) {
        text.push_str(&format[position..percent]);
        if format[percent + 1..].starts_with('%') {
            text.push('%');
            position = percent + 2;
            continue;
        }
        let (command, size) = match_command(&format[percent..]).ok_or_else(|| {
            format!("Incorrect configuration: {format}. Couldn't find valid command at position {percent}")
        })?;
        push_text(&mut pieces, &mut text);
        pieces.push(Piece::Command(provider(&command, parsers)?));
        position = percent + size;
    }
    text.push_str(&format[position..]);
    push_text(&mut pieces, &mut text);
    Ok(pieces)
}

fn provider(
    command: &Command<'_>,
    parsers: &[Arc<dyn CommandParser>],
) -> Result<Box<dyn FormatterProvider>, String> {
    let of_extension = parsers.iter().find_map(|parser| parser.parse(command));
    of_extension.unwrap_or_else(|| Ok(Box::new(Operator::new(command)?)))
}

fn push_text(pieces: &mut Vec<Piece>, text: &mut String) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text).into()));
    }
}

/// Matches a command at the beginning of `text`, which starts with a percent sign; returns also the bytes matched.
fn match_command(text: &str) -> Option<(Command<'_>, usize)> {
    let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    let name_end = 1 + text[1..].bytes().take_while(|byte| is_name(byte)).count();
    let name = &text[1..name_end];
    if name.is_empty() {
        return None;
    }
    let Some(argument_and_rest) = text[name_end..].strip_prefix('(') else {
        let (max_length, size) = match_end(&text[name_end..])?;
        return Some((Command { name, argument: "", max_length }, name_end + size));
    };
    // The argument ends with the first closing parenthesis that the command may end after; it lies
    // on one line.
    let line = argument_and_rest.split('\n').next().unwrap_or_default();
    line.match_indices(')').find_map(|(close, _)| {
        let (max_length, size) = match_end(&argument_and_rest[close + 1..])?;
        let argument = &argument_and_rest[..close];
        Some((Command { name, argument, max_length }, name_end + 1 + close + 1 + size))
    })
}

/// Matches a length, if there is one, and the closing percent sign; returns also the bytes matched.
fn match_end(text: &str) -> Option<(Option<usize>, usize)> {
    if text.starts_with('%') {
        return Some((None, 1));
    }
    let (digits, _) = text.strip_prefix(':')?.split_once('%')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((Some(digits.parse().ok()?), 1 + digits.len() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats and the errors that Envoy 1.40 refuses them with.
    const REFUSED: &[(&str, &str)] = &[
        ("%FOO%", "Not supported field in StreamInfo: FOO"),
        ("%REQ(A?B):1%x%QUX%", "Not supported field in StreamInfo: QUX"),
        ("%REQ%", "REQ requires parameters"),
        ("%REQ()%", "REQ requires parameters"),
        ("%REQUEST_HEADER%", "REQUEST_HEADER requires parameters"),
        ("%REQ(A?B?C)%", "More than 1 alternative header specified in token: A?B?C"),
        ("%REQ(A):x%", "Incorrect configuration: %REQ(A):x%. Couldn't find valid command at position 0"),
        ("%REQ(A):%", "Incorrect configuration: %REQ(A):%. Couldn't find valid command at position 0"),
        (
            "%REQ(A):99999999999999999999999%",
            "Incorrect configuration: %REQ(A):99999999999999999999999%. \
             Couldn't find valid command at position 0",
        ),
        ("%REQ(A)x%", "Incorrect configuration: %REQ(A)x%. Couldn't find valid command at position 0"),
        ("%REQ(A", "Incorrect configuration: %REQ(A. Couldn't find valid command at position 0"),
        ("%REQ(A)", "Incorrect configuration: %REQ(A). Couldn't find valid command at position 0"),
        ("%req(A)%", "Incorrect configuration: %req(A)%. Couldn't find valid command at position 0"),
        ("a%b", "Incorrect configuration: a%b. Couldn't find valid command at position 1"),
        ("%", "Incorrect configuration: %. Couldn't find valid command at position 0"),
        ("%%%", "Incorrect configuration: %%%. Couldn't find valid command at position 2"),
        ("é%", "Incorrect configuration: é%. Couldn't find valid command at position 2"),
        ("%REQ(a\nb)%", "Incorrect configuration: %REQ(a\nb)%. Couldn't find valid command at position 0"),
        ("%DYNAMIC_METADATA%", "DYNAMIC_METADATA requires parameters"),
        ("%FILTER_STATE()%", "Invalid filter state configuration, key cannot be empty."),
        ("%FILTER_STATE(:PLAIN)%", "Invalid filter state configuration, key cannot be empty."),
        ("%FILTER_STATE(a:FOO)%", "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."),
        (
            "%FILTER_STATE(a:FIELD)%",
            "Invalid filter state serialize type, FIELD should be used with the field name.",
        ),
        (
            "%FILTER_STATE(a:PLAIN:x)%",
            "Invalid filter state serialize type, FIELD should be used with the field name.",
        ),
        ("%DOWNSTREAM_PEER_SUBJECT(x)%", "DOWNSTREAM_PEER_SUBJECT does not take any parameters or length"),
        ("%ACCESS_LOG_TYPE(x)%", "ACCESS_LOG_TYPE does not take any parameters or length"),
        ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
        ("%DURATION:2%", "DURATION does not take any parameters or length"),
        ("%START_TIME:5%", "START_TIME does not allow length to be specified."),
        ("%START_TIME(%d):3%", "START_TIME does not allow length to be specified."),
        ("%START_TIME(%n)%", "Invalid header configuration. Format string contains newline."),
        ("%REQ(a b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(a:b)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(:)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(A)):3%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(A?é)%", "Invalid header configuration. Format string contains invalid characters."),
        ("%REQ(A?%REQ(B)%)%", "Invalid header configuration. Format string contains invalid characters."),
    ];

    #[test]
    fn errors_are_envoys() {
        for (format, error) in REFUSED {
            assert_eq!(parse(format, &[]).unwrap_err(), *error, "{format:?}");
        }
    }

    #[test]
    fn envoy_accepts_these_too() {
        for format in [
            "",
            "100%%",
            "%PROTOCOL()%",
            "%START_TIME()%",
            "%START_TIME((%d))%",
            "%REQ(A?):1%",
            "%REQ(?A)%",
            "%REQ(?)%",
            "%REQ(:foo)%",
            "%REQ(a%b)%",
            "%REQ(a!#$&'*+-.^_|~`b)%",
            "%TRAILER(a):2%",
            "%DYNAMIC_METADATA(a:b:c):3%",
            "%FILTER_STATE(a:FIELD:x):3%",
            "%RESPONSE_CODE_DETAILS(X)%",
            "a\nb%ROUTE_NAME%",
        ] {
            assert!(parse(format, &[]).is_ok(), "{format:?}: {:?}", parse(format, &[]));
        }
    }

    #[test]
    fn text_and_escapes_between_commands_are_one_piece() {
        let pieces = parse("a%%b%PROTOCOL%%%%DURATION%", &[]).unwrap();
        let shape: Vec<Option<&str>> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.as_ref()),
                Piece::Command(_) => None,
            })
            .collect();
        assert_eq!(shape, [Some("a%b"), None, Some("%"), None]);
    }
}
