//! Templates of paths, and what is made of what they match.
//!
//! Mirrors Envoy 1.40's `source/extensions/path/uri_template_lib/uri_template.cc` and `uri_template_internal.cc`, and the
//! extensions `source/extensions/path/match/uri_template/config.cc` and `source/extensions/path/rewrite/uri_template/config.cc`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use regex::bytes::Regex;

use crate::config::extension::Factory;

/// Routes by a template of the path.
pub static PATH_MATCH: Factory<UriTemplate> = Factory::new(
    "envoy.path.match.uri_template.uri_template_matcher",
    &["envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"],
    |r| {
        let template = r.string("path_template")?;
        UriTemplate::new(&template).map(Arc::new).map_err(|message| r.error("path_template", message))
    },
);

/// Makes another path of what a template has matched.
pub static PATH_REWRITE: Factory<UriTemplateRewrite> = Factory::new(
    "envoy.path.rewrite.uri_template.uri_template_rewriter",
    &["envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"],
    |r| {
        let text = r.string("path_template_rewrite")?;
        let rewrite = UriTemplateRewrite::new(&text).map(Arc::new);
        rewrite.map_err(|message| r.error("path_template_rewrite", message))
    },
);

const MAX_VARIABLES: usize = 5;
const MAX_VARIABLE_NAME: usize = 16;
/// What one segment may be made of, for an expression.
const LITERAL: &str = "a-zA-Z0-9-._~%!$&'()*+,;:@=";

/// A template: segments with `*` for one of any kind, `**` for what is left, and `{name}` or `{name=segments}` for what
/// is called so.
#[derive(Clone)]
pub struct UriTemplate {
    text: Box<str>,
    expression: Regex,
    variables: BTreeSet<Box<str>>,
}

impl fmt::Debug for UriTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl UriTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// Envoy's text for what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        Template::parse(text).and_then(|template| {
            let whole = format!("\\A(?:{})\\z", template.expression);
            let expression = Regex::new(&whole).map_err(|error| error.to_string())?;
            Ok(UriTemplate { text: text.into(), expression, variables: template.variables })
        })
    }

    /// Whether it stands for a path without its query.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.expression.is_match(path)
    }
}

/// What is being parsed of a template.
struct Template {
    expression: String,
    variables: BTreeSet<Box<str>>,
    seen_text_glob: bool,
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(mut rest) = text.strip_prefix('/').filter(|rest| rest.bytes().all(|b| b.is_ascii_graphic()))
        else {
            return Err(format!("Invalid pattern: \"{text}\""));
        };
        let mut template =
            Template { expression: "/".into(), variables: BTreeSet::new(), seen_text_glob: false };
        while !rest.is_empty() {
            rest = template.segment(rest)?;
            if let Some(behind) = rest.strip_prefix('/') {
                template.expression.push('/');
                rest = behind;
            } else if !rest.is_empty() {
                let suffix = |_| format!("Invalid suffix literal: \"{rest}\"");
                let (suffix, behind) = literal(rest, is_literal).map_err(suffix)?;
                template.expression += &escaped(suffix);
                if !behind.is_empty() {
                    return Err("Prefix match not supported.".into());
                }
                break;
            }
        }
        Ok(template)
    }

    /// Takes a segment off the begin of `text`.
    fn segment<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        if text.starts_with('{') {
            return self.variable(text);
        }
        let (expression, rest) = self.plain(text)?;
        self.expression += &expression;
        Ok(rest)
    }

    /// A `*`, a `**` or a text.
    fn plain<'a>(&mut self, text: &'a str) -> Result<(String, &'a str), String> {
        let (expression, rest, is_text_glob) = if let Some(rest) = text.strip_prefix("**") {
            (format!("[{LITERAL}/]*"), rest, true)
        } else if let Some(rest) = text.strip_prefix('*') {
            (format!("[{LITERAL}]+"), rest, false)
        } else {
            // Braces stand for themselves here.
            let (text, rest) = literal(text, |byte| is_literal(byte) || b"{}".contains(&byte))?;
            return Ok((escaped(text), rest));
        };
        if self.seen_text_glob {
            return Err("Glob after text glob.".into());
        }
        self.seen_text_glob = is_text_glob;
        Ok((expression, rest))
    }

    fn variable<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        let Some((inside, rest)) = text[1..].split_once('}') else {
            return Err(format!("Unmatched variable bracket in \"{text}\""));
        };
        let (name, segments) = inside.split_once('=').map_or((inside, None), |(name, s)| (name, Some(s)));
        check_name(name)?;
        let expression = match segments {
            None if self.seen_text_glob => return Err("Implicit variable path glob after text glob.".into()),
            None => format!("[{LITERAL}]+"),
            Some("") => return Err("Empty variable match".into()),
            Some(segments) => self.segments_of_variable(segments)?,
        };
        if self.variables.len() >= MAX_VARIABLES {
            return Err(format!("Exceeded variable count limit ({MAX_VARIABLES})"));
        }
        if name.len() > MAX_VARIABLE_NAME {
            return Err(format!(
                "Invalid variable name length (length of \"{name}\" should be at least 1 and no more than {MAX_VARIABLE_NAME})"
            ));
        }
        if !self.variables.insert(name.into()) {
            return Err(format!("Repeated variable name: \"{name}\""));
        }
        self.expression += &format!("(?P<{name}>{expression})");
        Ok(rest)
    }

    fn segments_of_variable(&mut self, mut text: &str) -> Result<String, String> {
        let mut expression = String::new();
        loop {
            let (part, rest) = self.plain(text)?;
            expression += &part;
            match rest.strip_prefix('/') {
                None if rest.is_empty() => return Ok(expression),
                Some(behind) if !behind.is_empty() => text = behind,
                _ => return Err(format!("Invalid variable match: \"{rest}\"")),
            }
            expression.push('/');
        }
    }
}

fn literal(text: &str, is_literal: fn(u8) -> bool) -> Result<(&str, &str), String> {
    let (literal, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    if literal.is_empty() || !literal.bytes().all(is_literal) {
        return Err(format!("Invalid literal: \"{literal}\""));
    }
    Ok((literal, rest))
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;:@=".contains(&byte)
}

fn escaped(literal: &str) -> String {
    regex::escape(literal)
}

fn check_name(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    match begins && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(()),
        false => Err(format!("Invalid variable name: \"{name}\"")),
    }
}

/// What is made of a path that a template stands for.
#[derive(Clone)]
pub struct UriTemplateRewrite {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Clone)]
enum Piece {
    Literal(Box<str>),
    Variable(Box<str>),
}

impl fmt::Debug for UriTemplateRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl UriTemplateRewrite {
    /// Takes a text apart in which `{name}` stands for what the template calls so.
    ///
    /// # Errors
    /// Envoy's text for what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        loop {
            let (literal, behind) = rest.split_once('{').map_or((rest, None), |(l, b)| (l, Some(b)));
            if !literal.is_empty() {
                if !literal.bytes().all(|byte| is_literal(byte) || byte == b'/') {
                    return Err(format!("Invalid rewrite literal pattern: \"{literal}\""));
                }
                pieces.push(Piece::Literal(literal.into()));
            }
            let Some(behind) = behind else { break };
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(format!("Unmatched variable bracket in \"{rest}\""));
            };
            check_name(name)?;
            pieces.push(Piece::Variable(name.into()));
            rest = behind;
        }
        Ok(UriTemplateRewrite { text: text.into(), pieces: pieces.into() })
    }

    /// Whether a template has all the names that are asked for.
    ///
    /// # Errors
    /// Envoy's text where it has not.
    pub(super) fn check(&self, template: &UriTemplate) -> Result<(), String> {
        let is_known = |piece: &Piece| match piece {
            Piece::Literal(_) => true,
            Piece::Variable(name) => template.variables.contains(name),
        };
        match self.pieces.iter().all(is_known) {
            true => Ok(()),
            false => Err(format!(
                "mismatch between variables in path_match_policy {} and path_rewrite_policy {}",
                template.text, self.text
            )),
        }
    }

    /// The path, without its query, that becomes of one that `template` stands for.
    pub(super) fn rewrite(&self, template: &UriTemplate, path: &[u8]) -> Option<Vec<u8>> {
        let found = template.expression.captures(path)?;
        let mut new = Vec::new();
        for piece in &self.pieces {
            new.extend_from_slice(match piece {
                Piece::Literal(text) => text.as_bytes(),
                Piece::Variable(name) => found.name(name).map_or(&[], |part| part.as_bytes()),
            });
        }
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_refused_with_envoys_words() {
        for (text, expected) in [
            ("a", "Invalid pattern: \"a\""),
            ("/a b", "Invalid pattern: \"/a b\""),
            ("/{a", "Unmatched variable bracket in \"{a\""),
            ("/{1}", "Invalid variable name: \"1\""),
            ("/{a=}", "Empty variable match"),
            ("/{a=b/}", "Invalid variable match: \"/\""),
            ("/**/{a}", "Implicit variable path glob after text glob."),
            ("/**/*", "Glob after text glob."),
            ("/{a}/{a}", "Repeated variable name: \"a\""),
            ("/{a}/{b}/{c}/{d}/{e}/{f}", "Exceeded variable count limit (5)"),
            ("/*.b/c", "Prefix match not supported."),
            ("/a//b", "Invalid literal: \"\""),
            ("/a[", "Invalid literal: \"a[\""),
        ] {
            assert_eq!(UriTemplate::new(text).err().as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_a_template_stands_for() {
        let template = UriTemplate::new("/v1/{id}/x/{rest=**}.m3u8").unwrap();
        assert!(template.matches(b"/v1/7/x/a/b.m3u8") && !template.matches(b"/v1/7/8/x/a.m3u8"));
        let rewrite = UriTemplateRewrite::new("/{rest}/of/{id}").unwrap();
        assert_eq!(rewrite.check(&template), Ok(()));
        assert_eq!(rewrite.rewrite(&template, b"/v1/7/x/a/b.m3u8").unwrap(), b"/a/b/of/7");
        assert!(UriTemplateRewrite::new("/{other}").unwrap().check(&template).is_err());
        assert!(UriTemplate::new("/").unwrap().matches(b"/"));
        assert!(UriTemplate::new("/a/").unwrap().matches(b"/a/"));
    }
}
