//! `xds.type.matcher.v3.Matcher`: a tree that leads from what is known of a request to an action.
//!
//! As far as route tables may have it: by headers of the request. Envoy refuses all other inputs there but two.

use super::error::ConfigError;
use super::extension::read_name;
use super::header_matcher::StringMatcher;
use super::reader::{FromMessage, MessageReader, unknown_type};

/// What a tree leads to.
pub trait MatchAction: Sized {
    /// Reads one of this type.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    fn read(type_name: &str, r: MessageReader<'_>) -> Result<Self, ConfigError>;
}

/// A tree, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher<A> {
    /// What is asked.
    pub branches: Branches<A>,
    /// Where all that leads nowhere.
    pub on_no_match: Option<OnMatch<A>>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Branches<A> {
    /// Nothing.
    None,
    /// One after the other, until one is true and leads to something.
    List(Vec<FieldMatcher<A>>),
    /// What the input is.
    Exact(MatchInput, Vec<(String, OnMatch<A>)>),
    /// What it begins with; the longest first.
    Prefix(MatchInput, Vec<(String, OnMatch<A>)>),
}

/// What follows if something is true.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldMatcher<A> {
    /// What has to be true.
    pub predicate: Predicate,
    /// What follows.
    pub on_match: OnMatch<A>,
}

/// What has to be true.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// The input is so.
    Single(MatchInput, StringMatcher),
    /// One of them.
    Or(Vec<Predicate>),
    /// All of them.
    And(Vec<Predicate>),
    /// This is not.
    Not(Box<Predicate>),
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum OnMatch<A> {
    /// More is asked.
    Matcher(Box<Matcher<A>>),
    /// It is done.
    Action(A),
}

/// What is asked for: the header of this name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchInput(pub String);

const HEADER: &str = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput";

/// The fields of both trees and predicates that an extension would read.
const CUSTOM: &str = "custom_match";

impl<A: MatchAction> FromMessage for Matcher<A> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let on_no_match = r.message("on_no_match")?;
        let branches = match r.at_most_one(&["matcher_list", "matcher_tree"])? {
            None => Some(Branches::None),
            Some("matcher_list") => {
                r.message_with("matcher_list", |r| r.messages("matchers").map(Branches::List))?
            }
            Some(tree) => r.message_with(tree, read_tree)?,
        };
        Ok(Matcher { branches: branches.unwrap_or(Branches::None), on_no_match })
    }
}

fn read_tree<A: MatchAction>(r: &mut MessageReader<'_>) -> Result<Branches<A>, ConfigError> {
    let input = r.message("input")?;
    let kind = r.exactly_one(&["exact_match_map", "prefix_match_map", CUSTOM])?;
    if kind == CUSTOM {
        return refuse_custom(r);
    }
    let map = r.message_with(kind, |r| r.message_map("map"))?.unwrap_or_default();
    let input = input.unwrap_or_default();
    Ok(if kind == "exact_match_map" { Branches::Exact(input, map) } else { Branches::Prefix(input, map) })
}

/// Says which extension would be asked.
fn refuse_custom<T>(r: &mut MessageReader<'_>) -> Result<T, ConfigError> {
    let read = r.message_with(CUSTOM, |r| {
        let (type_name, config) = read_name(r)?;
        Err::<(), _>(unknown_type(&config, type_name, &[]))
    });
    read.and_then(|_| Err(r.noted()))
}

impl<A: MatchAction> FromMessage for FieldMatcher<A> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let on_match = r.required_message("on_match");
        Ok(FieldMatcher { predicate: r.required_message("predicate")?, on_match: on_match? })
    }
}

impl FromMessage for Predicate {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(match r.exactly_one(&["single_predicate", "or_matcher", "and_matcher", "not_matcher"])? {
            "single_predicate" => {
                r.message_with("single_predicate", read_single)?.ok_or_else(|| r.noted())?
            }
            "or_matcher" => Predicate::Or(read_predicates(r, "or_matcher")?),
            "and_matcher" => Predicate::And(read_predicates(r, "and_matcher")?),
            not => Predicate::Not(Box::new(r.required_message(not)?)),
        })
    }
}

fn read_predicates(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<Predicate>, ConfigError> {
    Ok(r.message_with(name, |r| r.messages("predicate"))?.unwrap_or_default())
}

fn read_single(r: &mut MessageReader<'_>) -> Result<Predicate, ConfigError> {
    let input: Option<MatchInput> = r.message("input")?;
    match r.exactly_one(&["value_match", CUSTOM])? {
        CUSTOM => refuse_custom(r),
        value => Ok(Predicate::Single(input.unwrap_or_default(), r.required_message(value)?)),
    }
}

impl<A: MatchAction> FromMessage for OnMatch<A> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        if r.bool("keep_matching")? {
            r.refuse("keep_matching", "keep_matching is not supported in this context");
        }
        match r.exactly_one(&["matcher", "action"])? {
            "matcher" => Ok(OnMatch::Matcher(Box::new(r.required_message("matcher")?))),
            action => {
                let read = r.message_with(action, |r| {
                    let (type_name, config) = read_name(r)?;
                    A::read(type_name, config)
                })?;
                read.map(OnMatch::Action).ok_or_else(|| r.noted())
            }
        }
    }
}

/// `xds.core.v3.TypedExtensionConfig`.
impl FromMessage for MatchInput {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let (type_name, config) = read_name(r)?;
        config.read_with(|config| match type_name {
            HEADER => Ok(MatchInput(config.string("header_name")?.to_ascii_lowercase())),
            _ if is_input_elsewhere(type_name) => {
                let message = format!("Route table can only match on request headers, saw {type_name}");
                Err(config.error("@type", message))
            }
            _ => Err(unknown_type(config, type_name, &[HEADER])),
        })
    }
}

/// Whether it is one of the inputs that Envoy has, but for filters and listeners.
fn is_input_elsewhere(type_name: &str) -> bool {
    let of_filters = type_name.strip_prefix("envoy.type.matcher.v3.Http");
    let of_connections = type_name.strip_prefix("envoy.extensions.matching.common_inputs.");
    // These two Envoy has there as well.
    let taken = ["network.v3.FilterStateInput", "environment_variable.v3.Config"];
    of_filters.is_some_and(|rest| rest.ends_with("Input"))
        || of_connections.is_some_and(|rest| !taken.contains(&rest))
}

impl Default for MatchInput {
    /// Stands for one that is wrong.
    fn default() -> Self {
        MatchInput(String::new())
    }
}
