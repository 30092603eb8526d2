//! `xds.type.matcher.v3.Matcher`: a tree that leads from what is known of a request to an action.
//!
//! Who uses it says by what it may ask: route tables by headers of the request and little else, the rbac filter by what is
//! known of the connection, too. Matchers and maps that are extensions are refused.

use std::marker::PhantomData;

use super::error::ConfigError;
use super::extension::read_name;
use super::header_matcher::StringMatcher;
use super::reader::{FromMessage, MessageReader, unknown_type};

/// What a tree leads to.
pub trait MatchAction: Sized {
    /// What is said of an input that Envoy has, but not there; what it is comes behind it.
    const OTHER_INPUT: &str;

    /// Whether an input of this type may be asked for.
    fn takes_input(type_name: &str) -> bool;

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

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatchInput {
    /// The header of this name, in lower case.
    RequestHeader(String),
    /// The connection's own address, without its port.
    DestinationIp,
    /// The connection's own port.
    DestinationPort,
    /// The client's address, without its port.
    SourceIp,
    /// The client's port.
    SourcePort,
    /// The address of the connection's other end.
    DirectSourceIp,
    /// What a filter has left in the stream under this key, as text.
    FilterState(String),
    /// What is never there: what only TLS tells, and what filters have said of the stream, or the environment says, which
    /// are no texts to Envoy.
    Nothing,
}

/// The input that most have.
pub const HEADER_INPUT: &str = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
/// What the environment says.
pub const ENVIRONMENT_INPUT: &str = "envoy.extensions.matching.common_inputs.environment_variable.v3.Config";
/// Before the names of the inputs that connections have.
pub const NETWORK_INPUTS: &str = "envoy.extensions.matching.common_inputs.network.v3.";
/// Before the names of those that TLS has.
pub const SSL_INPUTS: &str = "envoy.extensions.matching.common_inputs.ssl.v3.";

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
    let input: Option<For<A, MatchInput>> = r.message("input")?;
    let kind = r.exactly_one(&["exact_match_map", "prefix_match_map", CUSTOM])?;
    if kind == CUSTOM {
        return refuse_custom(r);
    }
    let map = r.message_with(kind, |r| r.message_map("map"))?.unwrap_or_default();
    let input = input.map_or(MatchInput::Nothing, For::into_inner);
    Ok(if kind == "exact_match_map" { Branches::Exact(input, map) } else { Branches::Prefix(input, map) })
}

/// What is read where such actions are, which say what may be asked.
struct For<A, T>(T, PhantomData<A>);

impl<A, T> For<A, T> {
    fn new(of: T) -> Self {
        For(of, PhantomData)
    }

    fn into_inner(self) -> T {
        self.0
    }
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
        let predicate: For<A, Predicate> = r.required_message("predicate")?;
        Ok(FieldMatcher { predicate: predicate.into_inner(), on_match: on_match? })
    }
}

impl<A: MatchAction> FromMessage for For<A, Predicate> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let list = |r: &mut MessageReader<'_>| {
            let all: Vec<For<A, Predicate>> = r.messages("predicate")?;
            Ok(all.into_iter().map(For::into_inner).collect::<Vec<_>>())
        };
        let predicate =
            match r.exactly_one(&["single_predicate", "or_matcher", "and_matcher", "not_matcher"])? {
                single @ "single_predicate" => {
                    r.message_with(single, read_single::<A>)?.ok_or_else(|| r.noted())?
                }
                or @ "or_matcher" => Predicate::Or(r.message_with(or, list)?.unwrap_or_default()),
                and @ "and_matcher" => Predicate::And(r.message_with(and, list)?.unwrap_or_default()),
                not => Predicate::Not(Box::new(r.required_message::<For<A, Predicate>>(not)?.into_inner())),
            };
        Ok(For::new(predicate))
    }
}

fn read_single<A: MatchAction>(r: &mut MessageReader<'_>) -> Result<Predicate, ConfigError> {
    let input: Option<For<A, MatchInput>> = r.message("input")?;
    match r.exactly_one(&["value_match", CUSTOM])? {
        CUSTOM => refuse_custom(r),
        value => {
            let input = input.map_or(MatchInput::Nothing, For::into_inner);
            Ok(Predicate::Single(input, r.required_message(value)?))
        }
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
impl<A: MatchAction> FromMessage for For<A, MatchInput> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let (type_name, config) = read_name(r)?;
        config.read_with(|config| {
            if A::takes_input(type_name) {
                return read_input(type_name, config).map(For::new);
            }
            match is_input_elsewhere(type_name) {
                true => Err(config.error("@type", format!("{}{type_name}", A::OTHER_INPUT))),
                false => Err(unknown_type(config, type_name, &[HEADER_INPUT])),
            }
        })
    }
}

fn read_input(type_name: &str, r: &mut MessageReader<'_>) -> Result<MatchInput, ConfigError> {
    Ok(match type_name {
        HEADER_INPUT => MatchInput::RequestHeader(r.string("header_name")?.to_ascii_lowercase()),
        ENVIRONMENT_INPUT => {
            r.string("name")?;
            MatchInput::Nothing
        }
        _ => match type_name.strip_prefix(NETWORK_INPUTS).unwrap_or_default() {
            "DestinationIPInput" => MatchInput::DestinationIp,
            "DestinationPortInput" => MatchInput::DestinationPort,
            "SourceIPInput" => MatchInput::SourceIp,
            "SourcePortInput" => MatchInput::SourcePort,
            "DirectSourceIPInput" => MatchInput::DirectSourceIp,
            "FilterStateInput" => MatchInput::FilterState(r.string("key")?),
            "DynamicMetadataInput" => {
                r.messages_with("path", |r| r.string("key"))?;
                r.string("filter")?;
                MatchInput::Nothing
            }
            _ => MatchInput::Nothing,
        },
    })
}

/// Whether it is one of the inputs that Envoy has, if not there.
fn is_input_elsewhere(type_name: &str) -> bool {
    let of_filters = type_name.strip_prefix("envoy.type.matcher.v3.Http");
    of_filters.is_some_and(|rest| rest.ends_with("Input"))
        || type_name.starts_with("envoy.extensions.matching.common_inputs.")
}
