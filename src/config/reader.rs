//! [`MessageReader`]: reads one protobuf message in its JSON form, field by
//! field, and reports with the full path whatever is wrong.
//!
//! It stands where Envoy has the protobuf JSON parser and the generated
//! validation. Which fields there are is what the API says ([`Api`](super::descriptor::Api));
//! when the message is done, a field that is set and that nobody asked for is one that is not
//! supported yet.
//!
//! Reading goes on after an error, so that all errors of a document are found
//! at once: a wrong value is noted and stands for an absent one. Only what has
//! no such value ends the reading of its message: a `required_message`, an
//! `exactly_one` and an `any`, which are therefore asked for last. So a
//! misspelled field is found even where it leaves a gap, and the gap is not
//! mentioned then.
//!
//! Different on purpose: a field written twice (as `snake_case` and
//! `camelCase`) is an error, where Envoy lets one of the two win.

mod rules;
mod single;
mod unread;

use super::context::ClusterNamed;
pub use super::context::{ParseContext, UnknownFields};
use super::descriptor::{Field, MessageType, is_camel_case_of};
use super::error::{ConfigError, Kind};
use super::extension::Extensions;
use super::scalar;
use serde_json::Value;
use std::rc::Rc;

/// A member of a oneof, and what reads it.
pub type Member<T> = (&'static str, fn(&mut MessageReader<'_>, &str) -> Result<T, ConfigError>);

/// The values of an enum that are supported: the API's name and what it means here.
pub type EnumTable<T> = [(&'static str, T)];

/// Reads one message. Methods that take a field name accept it in the document
/// as `snake_case` or `camelCase`; `null` is the same as absent.
#[derive(Debug)]
pub struct MessageReader<'a> {
    context: &'a ParseContext,
    path: String,
    /// `None` where the API does not have the type: then it has the fields that are asked for.
    message: Option<Rc<MessageType>>,
    given: Vec<Given<'a>>,
    /// The names that were asked for.
    #[cfg(test)]
    asked: Vec<String>,
    /// What has to be there and is not.
    absent: Vec<ConfigError>,
}

/// A field that stands in the document.
#[derive(Debug)]
struct Given<'a> {
    /// Which of the message's fields it is, if any.
    field: Option<usize>,
    key: &'a str,
    value: &'a Value,
    /// Whether it was asked for.
    read: bool,
}

/// A message type that can be read from its JSON form.
pub trait FromMessage: Sized {
    /// Asks for every field of the message, then may fail; the caller checks for unknown ones.
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError>;
}

/// Edits by which a misspelled name may differ.
const MISSPELLING: usize = 2;

impl<'a> MessageReader<'a> {
    /// A reader for the message `value` of the type `type_name` found at `path`. `null` is the
    /// empty message.
    pub fn new(
        context: &'a ParseContext,
        type_name: &str,
        value: &'a Value,
        path: String,
    ) -> Result<Self, ConfigError> {
        let fields = match value {
            Value::Object(fields) => Some(fields),
            Value::Null => None,
            _ => {
                let got = scalar::describe(value);
                return Err(ConfigError::new(path, format!("expected an object, got {got}")));
            }
        };
        let message = context.api().message(type_name);
        let given = fields.into_iter().flatten().map(|(key, value)| {
            let field = message.as_ref().and_then(|message| message.position(key));
            Given { field, key, value, read: false }
        });
        let given = given.collect();
        #[cfg(not(test))]
        return Ok(Self { context, path, message, given, absent: Vec::new() });
        #[cfg(test)]
        Ok(Self { context, path, message, given, asked: Vec::new(), absent: Vec::new() })
    }

    /// Whether the message is of that type, as far as the API has its own.
    pub fn is_of(&self, type_name: &str) -> bool {
        self.message.as_ref().is_none_or(|message| message.name == type_name)
    }

    /// Whether the API has the message's type.
    pub fn is_of_the_api(&self) -> bool {
        self.message.is_some()
    }

    /// Full path of this message.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Full path of the field `name` of this message.
    pub fn field_path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// An error about the field `name` of this message.
    pub fn error(&self, name: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.field_path(name), message)
    }

    /// Notes an error about the field `name` and goes on.
    pub fn refuse(&self, name: &str, message: impl Into<String>) {
        self.context.note(self.error(name, message));
    }

    /// Notes an error about what is at `path` and goes on.
    pub fn refuse_at(&self, path: String, message: impl Into<String>) {
        self.context.note(ConfigError::new(path, message));
    }

    /// Notes that the field `name`, or its value, is not supported, and goes on.
    pub fn refuse_field(&self, name: &str, message: impl Into<String>) {
        self.context.note(self.error(name, message).of_kind(Kind::Field));
    }

    /// Notes that something at `path` is not supported.
    pub fn refuse_field_at(&self, path: String, message: impl Into<String>) {
        self.context.note(ConfigError::new(path, message).of_kind(Kind::Field));
    }

    /// The extensions that the document may name.
    pub fn extensions(&self) -> &'static dyn Extensions {
        self.context.extensions()
    }

    /// Says that the field at `path`, seen from this message, names a cluster, which has to be there when the whole
    /// document has been read. `by` begins the error.
    pub fn names_cluster(&self, path: &str, by: &'static str, cluster: &str) {
        let (path, cluster) = (self.field_path(path), cluster.to_string());
        self.context.name_cluster(ClusterNamed { path, by, cluster });
    }

    pub(super) fn take_clusters_named(&self) -> Vec<ClusterNamed> {
        self.context.take_clusters_named()
    }

    /// Whether anything of the document is wrong so far.
    pub fn has_errors(&self) -> bool {
        self.context.has_errors()
    }

    /// Says that the field `name` has to be there and is not; names a key that looks like a misspelling of it.
    pub fn require(&mut self, name: &str, message: &str) -> ConfigError {
        let error = self.absence(name, message);
        self.lacks(error)
    }

    fn absence(&self, name: &str, message: &str) -> ConfigError {
        let unknown = self.given.iter().filter(|given| given.field.is_none() && !given.read);
        match nearest(name, unknown.map(|given| given.key)) {
            Some(key) => self.error(name, format!("{message}; the unknown field '{key}' looks like it")),
            None => self.error(name, message),
        }
    }

    /// Keeps an error about what is missing until it is known whether a field is misspelled.
    fn lacks(&mut self, error: ConfigError) -> ConfigError {
        self.absent.push(error.clone());
        error.of_kind(Kind::Noted)
    }

    /// Reads a message of this type.
    pub fn read<T: FromMessage>(self) -> Result<T, ConfigError> {
        self.read_with(T::read)
    }

    /// Reads the message with `read`, and then looks for fields that it did not ask for.
    pub fn read_with<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let result = read(&mut self);
        // A wrong value may have ended the reading before all fields were asked for.
        let asked_for_all = result.as_ref().map_or_else(|error| error.kind() == Kind::Noted, |_| true);
        if asked_for_all {
            self.note_unsupported();
        }
        let required = self.check_rules();
        // A misspelled field explains what is absent.
        if !self.note_unknown(asked_for_all) {
            for error in required.into_iter().chain(self.absent.drain(..)) {
                self.context.note(error);
            }
        }
        result.map_err(|error| self.context.note(error))
    }

    #[cfg(test)]
    pub(crate) fn asked(&self) -> std::collections::BTreeSet<String> {
        self.asked.iter().cloned().collect()
    }

    /// The raw value of a field, `None` if absent or `null`.
    pub fn value(&mut self, name: &str) -> Result<Option<&'a Value>, ConfigError> {
        #[cfg(test)]
        self.asked.push(name.to_string());
        let field = self.position(name);
        debug_assert!(self.message.is_none() || field.is_some() || name == "@type", "{self:?} lacks {name}");
        let mut found: Option<&Given<'a>> = None;
        let mut twice = None;
        for given in self.given.iter_mut().filter(|given| given.is(field, name)) {
            given.read = true;
            match found {
                None => found = Some(given),
                Some(other) => twice = Some(if given.key == name { other.key } else { given.key }),
            }
        }
        let value = found.map(|given| given.value).filter(|value| !value.is_null());
        if let Some(key) = twice {
            self.refuse(name, format!("the field is given twice, also as '{key}'"));
        }
        Ok(value)
    }

    /// Which of the message's fields has that name.
    fn position(&self, name: &str) -> Option<usize> {
        self.message.as_ref()?.position(name)
    }

    /// What the API says of a field.
    fn field(&self, name: &str) -> Option<&Field> {
        self.message.as_ref()?.field(name)
    }

    /// The full name of the message or enum that a field holds.
    fn type_of(&self, name: &str) -> &'static str {
        self.field(name).map_or("", |field| field.type_name)
    }

    /// Whether a field is present and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.look(name).is_some()
    }

    fn look(&self, name: &str) -> Option<&'a Value> {
        let field = self.position(name);
        let given = self.given.iter().find(|given| given.is(field, name))?;
        Some(given.value).filter(|value| !value.is_null())
    }

    /// Whether `items` is all of a list: an item that cannot be read is left out, and those behind it have other
    /// numbers then.
    pub fn is_all_of<T>(&self, name: &str, items: &[T]) -> bool {
        let listed = match self.look(name) {
            None => 0,
            Some(Value::Array(values)) => values.len(),
            Some(_) => 1,
        };
        listed == items.len()
    }

    /// For a `BoolValue` whose default is false: only `true` is not supported.
    pub fn unsupported_if_true(&mut self, name: &str) -> Result<(), ConfigError> {
        if self.opt_bool(name)? == Some(true) {
            self.refuse_field(name, "true is not supported yet");
        }
        Ok(())
    }

    /// Which member of a oneof is set, if any; there must not be more than one.
    pub fn at_most_one(&mut self, names: &[&'static str]) -> Result<Option<&'static str>, ConfigError> {
        let mut set = None;
        for name in names.iter().copied() {
            if self.value(name)?.is_none() {
                continue;
            }
            match set {
                None => set = Some(name),
                Some(other) => {
                    let message = format!("only one of '{other}' and '{name}' may be set");
                    self.context.note(ConfigError::new(self.path.clone(), message));
                }
            }
        }
        Ok(set)
    }

    /// Which member of a oneof is set; one has to be.
    pub fn exactly_one(&mut self, names: &[&'static str]) -> Result<&'static str, ConfigError> {
        let set = self.at_most_one(names)?;
        set.ok_or_else(|| {
            if names.first().is_some_and(|name| self.is_explained(name)) {
                return self.noted();
            }
            let message = format!("one of {} is required", names.join(", "));
            self.lacks(ConfigError::new(self.path.clone(), message))
        })
    }

    /// The member of a oneof that is set, as what stands beside its name reads it; one has to be.
    pub fn one_of<T>(&mut self, members: &[Member<T>]) -> Result<T, ConfigError> {
        let names: Vec<&'static str> = members.iter().map(|(name, _)| *name).collect();
        let set = self.exactly_one(&names)?;
        let member = members.iter().find(|(name, _)| *name == set);
        let noted = self.noted();
        member.map_or(Err(noted), |(name, read)| read(self, name))
    }

    /// Only says that there is no result: what is wrong has been noted.
    pub fn noted(&self) -> ConfigError {
        ConfigError::new("", "").of_kind(Kind::Noted)
    }

    /// Whether it need not be said that the absent field `name` is required: a rule says it, or another
    /// member of its oneof, which is not supported, stands there.
    fn is_explained(&self, name: &str) -> bool {
        let Some((message, oneof)) =
            self.message.as_ref().zip(self.field(name).and_then(|field| field.oneof))
        else {
            return false;
        };
        message.oneofs[oneof].required || message.members(oneof).any(|member| self.has(member.name))
    }

    /// A message, checked for unknown fields; `None` when absent.
    pub fn message<T: FromMessage>(&mut self, name: &str) -> Result<Option<T>, ConfigError> {
        Ok(self.try_message(name).unwrap_or(None))
    }

    /// A message that `read` reads; `None` when absent.
    pub fn message_with<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut MessageReader<'a>) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        match MessageReader::new(self.context, self.type_of(name), value, self.field_path(name)) {
            Ok(reader) => Ok(reader.read_with(read).ok()),
            Err(error) => Err(self.context.note(error)),
        }
    }

    /// A message that must be present.
    pub fn required_message<T: FromMessage>(&mut self, name: &str) -> Result<T, ConfigError> {
        self.try_message(name)?.ok_or_else(|| match self.is_explained(name) {
            true => self.noted(),
            false => self.require(name, "value is required"),
        })
    }

    /// The error has been noted.
    fn try_message<T: FromMessage>(&mut self, name: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        self.read_at(self.type_of(name), value, self.field_path(name)).map(Some)
    }

    /// A list of messages.
    pub fn messages<T: FromMessage>(&mut self, name: &str) -> Result<Vec<T>, ConfigError> {
        self.messages_with(name, T::read)
    }

    /// A list of messages that `read` reads.
    pub fn messages_with<T>(
        &mut self,
        name: &str,
        read: impl Fn(&mut MessageReader<'_>) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = self.items(name)?.into_iter();
        let type_name = self.type_of(name);
        let one = |(path, value): (String, &Value)| match MessageReader::new(
            self.context,
            type_name,
            value,
            path,
        ) {
            Ok(reader) => reader.read_with(&read).ok(),
            Err(error) => {
                self.context.note(error);
                None
            }
        };
        let mut all: Vec<T> = items.filter_map(one).collect();
        // What is configured stays, and of thousands of clusters.
        all.shrink_to_fit();
        Ok(all)
    }

    /// The entries of a map field with their paths, `field["key"]`.
    pub fn map(&mut self, name: &str) -> Result<Vec<(&'a str, String, &'a Value)>, ConfigError> {
        let Some(value) = self.value(name)? else {
            return Ok(Vec::new());
        };
        let Value::Object(entries) = value else {
            self.refuse(name, format!("expected an object, got {}", scalar::describe(value)));
            return Ok(Vec::new());
        };
        let base = self.field_path(name);
        let entry = |(key, value): (&'a String, &'a Value)| (key.as_str(), format!("{base}[{key:?}]"), value);
        Ok(entries.iter().map(entry).collect())
    }

    /// The messages in a map field with their keys.
    pub fn message_map<T: FromMessage>(&mut self, name: &str) -> Result<Vec<(String, T)>, ConfigError> {
        let entry = self.field(name).and_then(|field| self.context.api().map_entry(field));
        let type_name = entry.and_then(|entry| Some(entry.field("value")?.type_name)).unwrap_or("");
        let entries = self.map(name)?.into_iter();
        let read = |(key, path, value): (&str, _, _)| {
            Some((key.to_string(), self.read_at(type_name, value, path).ok()?))
        };
        Ok(entries.filter_map(read).collect())
    }

    /// A `google.protobuf.Any`: the message's full type name and a reader for its
    /// fields. It has to be present.
    pub fn any(&mut self, name: &str) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
        match self.value(name)? {
            Some(value) => self.any_at(value, self.field_path(name)),
            None if self.is_explained(name) => Err(ConfigError::new("", "").of_kind(Kind::Noted)),
            None => Err(self.require(name, "value is required")),
        }
    }

    /// The entries of a map whose values are messages of this type, those that can be read.
    pub fn map_of<T: FromMessage>(
        &mut self,
        name: &str,
        type_name: &str,
    ) -> Result<Vec<(String, T)>, ConfigError> {
        let entries = self.map(name)?.into_iter();
        let read = |(key, path, value): (&str, String, &Value)| {
            Some((key.to_string(), self.read_at(type_name, value, path).ok()?))
        };
        Ok(entries.filter_map(read).collect())
    }

    /// An `Any` found elsewhere, for example as the value of a map.
    pub fn any_at(
        &self,
        value: &'a Value,
        path: String,
    ) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
        any_at(self.context, value, path).map_err(|error| self.context.note(error))
    }

    fn read_at<T: FromMessage>(
        &self,
        type_name: &str,
        value: &Value,
        path: String,
    ) -> Result<T, ConfigError> {
        match MessageReader::new(self.context, type_name, value, path) {
            Ok(reader) => reader.read(),
            Err(error) => Err(self.context.note(error)),
        }
    }

    /// A value that is not a list counts as a list of one, and one that is a list of lists as what these have, as in Envoy.
    fn items(&mut self, name: &str) -> Result<Vec<(String, &'a Value)>, ConfigError> {
        let values = scalar::flat(self.value(name)?);
        let base = self.field_path(name);
        let item = |(i, value)| (format!("{base}[{i}]"), value);
        Ok(values.into_iter().enumerate().map(item).collect())
    }
}

fn any_at<'a>(
    context: &'a ParseContext,
    value: &'a Value,
    path: String,
) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
    let Value::Object(fields) = value else {
        return MessageReader::new(context, "", value, path.clone()).and_then(|_| no_type(&path));
    };
    let url = match fields.get("@type") {
        None | Some(Value::Null) => return no_type(&path),
        Some(Value::String(url)) => url,
        Some(other) => {
            let got = scalar::describe(other);
            return Err(ConfigError::new(format!("{path}.@type"), format!("expected a string, got {got}")));
        }
    };
    match url.rsplit_once('/') {
        Some((host, type_name)) if !host.is_empty() && !type_name.is_empty() => {
            let mut reader = MessageReader::new(context, type_name, value, path)?;
            reader.value("@type")?;
            Ok((type_name, reader))
        }
        _ => {
            let message = format!("must start with 'type.googleapis.com/', got {url:?}");
            Err(ConfigError::new(format!("{path}.@type"), message))
        }
    }
}

/// There is no type where there has to be one.
fn no_type<T>(path: &str) -> Result<T, ConfigError> {
    Err(ConfigError::new(format!("{path}.@type"), "is required"))
}

/// The one of `names` that `name` looks like.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let length = name.chars().count();
    // Of other length it cannot be near: what has thousands of unknown fields is refused soon, too.
    let names = names.filter(|other| other.chars().count().abs_diff(length) <= MISSPELLING);
    let near = names.map(|other| (strsim::levenshtein(other, name), other)).min()?;
    Some(near.1).filter(|_| near.0 <= MISSPELLING)
}

/// The name that Envoy has for the extension whose message this is: its package has the same words.
fn extension_name(type_name: &str) -> Option<String> {
    let (package, _) = type_name.strip_prefix("envoy.extensions.")?.rsplit_once('.')?;
    let (name, version) = package.rsplit_once('.')?;
    version.starts_with('v').then(|| format!("envoy.{name}"))
}

/// The error for an `Any` of a type that has no reader here.
pub fn unknown_type(r: &MessageReader<'_>, type_name: &str, supported: &[&str]) -> ConfigError {
    let supported = if supported.is_empty() { "none".to_string() } else { supported.join(", ") };
    let what = match extension_name(type_name).filter(|_| r.is_of_the_api()) {
        Some(name) => format!("{name} is not supported yet: type"),
        None => "unknown or unsupported type".to_string(),
    };
    let message = format!("{what} '{type_name}', supported here: {supported}");
    r.error("@type", message).of_kind(Kind::Field)
}

impl Given<'_> {
    fn is(&self, field: Option<usize>, name: &str) -> bool {
        match field {
            Some(_) => self.field == field,
            None => self.key == name || is_camel_case_of(self.key, name),
        }
    }
}
