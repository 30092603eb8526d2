//! What is done to headers: `envoy.config.core.v3.HeaderValueOption`, and names to remove.

use crate::config::error::ConfigError;
use crate::config::header_matcher::StringMatcher;
use crate::config::reader::{EnumTable, FromMessage, MessageReader};

/// What a level of a route table does to the headers of requests and of responses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Of requests.
    pub request: HeaderMutations,
    /// Of responses.
    pub response: HeaderMutations,
}

/// What is done to headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderMutations {
    /// Fields to add.
    pub to_add: Vec<HeaderValueOption>,
    /// Names to remove before, in lower case.
    pub to_remove: Vec<String>,
}

/// A field to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValueOption {
    /// In lower case.
    pub name: String,
    /// A format.
    pub value: String,
    /// What becomes of a field that is there.
    pub append_action: AppendAction,
    /// It is added though its value is empty.
    pub keep_empty_value: bool,
}

/// What becomes of a field that is there when another one of its name is to be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// It stays, before the new one.
    #[default]
    AppendIfExistsOrAdd,
    /// It stays, and there is no new one.
    AddIfAbsent,
    /// It goes.
    OverwriteIfExistsOrAdd,
    /// It goes; without it nothing is added.
    OverwriteIfExists,
}

impl AppendAction {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("APPEND_IF_EXISTS_OR_ADD", Self::AppendIfExistsOrAdd),
        ("ADD_IF_ABSENT", Self::AddIfAbsent),
        ("OVERWRITE_IF_EXISTS_OR_ADD", Self::OverwriteIfExistsOrAdd),
        ("OVERWRITE_IF_EXISTS", Self::OverwriteIfExists),
    ];
}

impl FromMessage for HeaderValueOption {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let action = r.enumeration("append_action", AppendAction::TABLE)?;
        let append = r.opt_bool("append")?;
        if append.is_some() && action.is_some_and(|action| action != AppendAction::default()) {
            r.refuse("append", "Both append and append_action are set and it's not allowed");
        }
        let append_action = match append {
            Some(false) => AppendAction::OverwriteIfExistsOrAdd,
            _ => action.unwrap_or_default(),
        };
        let keep_empty_value = r.bool("keep_empty_value")?;
        let header = r.message_with("header", |r| {
            let (name, value) = (r.string("key")?.to_ascii_lowercase(), r.string("value")?);
            // Without effect here, as in Envoy.
            r.bytes("raw_value")?;
            if !is_modifiable(&name) {
                r.refuse("key", ":-prefixed or host headers may not be modified");
            }
            Ok((name, value))
        })?;
        let (name, value) = header.unwrap_or_default();
        Ok(HeaderValueOption { name, value, append_action, keep_empty_value })
    }
}

/// Whether a header of this name may be changed (Envoy: `HeaderUtility::isModifiableHeader`).
pub(super) fn is_modifiable(name: &str) -> bool {
    !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}

/// One change of headers: `envoy.config.common.mutation_rules.v3.HeaderMutation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMutation {
    /// Fields of this name, which is in lower case, go.
    Remove(String),
    /// Fields of such names go.
    RemoveOnMatch(StringMatcher),
    /// A field is added.
    Append(HeaderValueOption),
}

impl FromMessage for HeaderMutation {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(match r.exactly_one(&["remove", "append", "remove_on_match"])? {
            "remove" => HeaderMutation::Remove(r.string("remove")?.to_ascii_lowercase()),
            "append" => HeaderMutation::Append(r.required_message("append")?),
            _ => {
                let matcher = r.message_with("remove_on_match", |r| r.required_message("key_matcher"))?;
                HeaderMutation::RemoveOnMatch(
                    matcher.ok_or_else(|| r.error("remove_on_match", "value is required"))?,
                )
            }
        })
    }
}

/// The rules of `request_headers_to_add` and its like, which stand in several messages.
pub(super) fn read_rules(r: &mut MessageReader<'_>, _: &str) -> Result<HeaderRules, ConfigError> {
    Ok(HeaderRules {
        request: read_mutations(r, "request_headers_to_add", "request_headers_to_remove")?,
        response: read_mutations(r, "response_headers_to_add", "response_headers_to_remove")?,
    })
}

/// The two fields of these names.
///
/// # Errors
/// What is wrong with them.
pub(in crate::config) fn read_mutations(
    r: &mut MessageReader<'_>,
    add: &str,
    remove: &str,
) -> Result<HeaderMutations, ConfigError> {
    let to_add = r.messages(add)?;
    let to_remove: Vec<String> = r.strings(remove)?.iter().map(|name| name.to_ascii_lowercase()).collect();
    for (i, name) in to_remove.iter().enumerate() {
        if !is_modifiable(name) {
            r.refuse(&format!("{remove}[{i}]"), ":-prefixed or host headers may not be removed");
        }
    }
    Ok(HeaderMutations { to_add, to_remove })
}
