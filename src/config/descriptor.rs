//! [`Api`]: which messages, fields, enums and rules Envoy's API has.
//!
//! They stand in `proto/envoy.fds`, a `FileDescriptorSet` that `proto/regenerate.sh` takes out of Envoy itself. It is
//! part of the program's constants, of which only what is looked at comes into memory: in front of the set is an index
//! by name, and a message's descriptor is decoded when it is first asked for. What was decoded goes with the [`Api`].
//!
//! Stands where Envoy has protobuf's generated pool.

use super::wire_format::{Fields, Payload};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

static SET: &[u8] = include_bytes!("../../proto/envoy.fds");
/// Of the field that the index is, in front of the files.
const INDEX: u32 = 1000;
/// A row of the index: the hash of a name, then where the descriptor begins and how long it is.
const ROW: usize = 16;
/// Stands beside the length of an enum's descriptor.
const IS_ENUM: u32 = 1 << 31;
/// `validate.rules` and `validate.required` in the options of a field and of a oneof.
const RULES: u32 = 1071;

/// What has been decoded of the API.
#[derive(Debug, Default)]
pub struct Api {
    messages: RefCell<HashMap<u64, Option<Rc<MessageType>>>>,
    enums: RefCell<HashMap<u64, Option<Rc<EnumType>>>>,
}

impl Api {
    /// The message of that full name, which may have a dot in front.
    pub fn message(&self, name: &str) -> Option<Rc<MessageType>> {
        let name = name.strip_prefix('.').unwrap_or(name);
        let hash = fnv1a(name);
        let decode = || Some(Rc::new(MessageType::decode(name, find(hash, false)?)?));
        self.messages.borrow_mut().entry(hash).or_insert_with(decode).clone()
    }

    /// The enum of that full name, which may have a dot in front.
    pub fn enumeration(&self, name: &str) -> Option<Rc<EnumType>> {
        let hash = fnv1a(name.strip_prefix('.').unwrap_or(name));
        let decode = || Some(Rc::new(EnumType::decode(find(hash, true)?)?));
        self.enums.borrow_mut().entry(hash).or_insert_with(decode).clone()
    }

    /// The entries' type where the field is a map.
    pub fn map_entry(&self, field: &Field) -> Option<Rc<MessageType>> {
        if !(field.repeated && field.kind == Kind::Message) {
            return None;
        }
        self.message(field.type_name).filter(|entry| entry.map_entry)
    }
}

/// The descriptor whose name has that hash.
fn find(hash: u64, is_enum: bool) -> Option<&'static [u8]> {
    let (index, files) = split();
    let (rows, _) = index.as_chunks::<ROW>();
    let number =
        |row: &[u8; ROW], at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
    let key = |row: &[u8; ROW]| u64::from(number(row, 0)) | u64::from(number(row, 4)) << 32;
    let row = &rows[rows.binary_search_by_key(&hash, key).ok()?];
    let (start, length) = (number(row, 8) as usize, number(row, 12));
    let descriptor = || files.get(start..start + (length & !IS_ENUM) as usize);
    (is_enum == (length & IS_ENUM != 0)).then(descriptor)?
}

/// The index, and the files.
fn split() -> (&'static [u8], &'static [u8]) {
    let mut fields = Fields::of(SET);
    match fields.next() {
        Some(Ok((INDEX, Payload::Bytes(index)))) => (index, fields.rest()),
        _ => (&[], &[]),
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A message of the API.
#[derive(Debug)]
pub struct MessageType {
    /// The full name.
    pub name: String,
    /// In the order of the file.
    pub fields: Vec<Field>,
    /// Those of which one member is set at most.
    pub oneofs: Vec<Oneof>,
    /// Whether it is what protobuf makes for the entries of a map.
    pub map_entry: bool,
}

/// Some fields of which one can be set.
#[derive(Debug)]
pub struct Oneof {
    /// Its name.
    pub name: &'static str,
    /// Whether one has to be.
    pub required: bool,
}

impl MessageType {
    fn decode(name: &str, descriptor: &'static [u8]) -> Option<Self> {
        let mut message =
            Self { name: name.to_string(), fields: Vec::new(), oneofs: Vec::new(), map_entry: false };
        for field in Fields::of(descriptor) {
            match field.ok()? {
                (2, Payload::Bytes(field)) => message.fields.push(Field::decode(field)?),
                (7, Payload::Bytes(options)) => message.map_entry = number(options, 7) == Some(1),
                (8, Payload::Bytes(oneof)) => message.oneofs.push(Oneof::decode(oneof)?),
                _ => {}
            }
        }
        Some(message)
    }

    /// The field of that name, in `snake_case` or `camelCase`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(self.position(name)?)
    }

    /// Which field has that name, in `snake_case` or `camelCase`.
    pub fn position(&self, name: &str) -> Option<usize> {
        let position = self.fields.iter().position(|field| field.name == name);
        position.or_else(|| self.fields.iter().position(|field| is_json_name(field, name)))
    }

    /// The field of that number.
    pub fn field_of_number(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// The members of a oneof.
    pub fn members(&self, oneof: usize) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.oneof == Some(oneof))
    }
}

fn is_json_name(field: &Field, name: &str) -> bool {
    field.json_name.map_or_else(|| is_camel_case_of(name, field.name), |json_name| json_name == name)
}

/// Whether `camel` is what protobuf makes of `snake` in JSON: `_x` becomes `X`.
pub fn is_camel_case_of(camel: &str, snake: &str) -> bool {
    let mut upper = false;
    let letters = snake.bytes().filter_map(|byte| {
        let byte = if std::mem::replace(&mut upper, byte == b'_') { byte.to_ascii_uppercase() } else { byte };
        (byte != b'_').then_some(byte)
    });
    letters.eq(camel.bytes())
}

impl Oneof {
    fn decode(descriptor: &'static [u8]) -> Option<Self> {
        let mut oneof = Self { name: "", required: false };
        for field in Fields::of(descriptor) {
            match field.ok()? {
                (1, name) => oneof.name = name.text()?,
                (2, Payload::Bytes(options)) => oneof.required = number(options, RULES) == Some(1),
                _ => {}
            }
        }
        Some(oneof)
    }
}

/// What a field holds; numbered as in `FieldDescriptorProto.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 64 bits.
    Double,
    /// 32 bits.
    Float,
    /// A varint.
    Int64,
    /// A varint.
    Uint64,
    /// A varint.
    Int32,
    /// Eight bytes.
    Fixed64,
    /// Four bytes.
    Fixed32,
    /// A varint.
    Bool,
    /// UTF-8.
    String,
    /// See [`Field::type_name`].
    Message,
    /// Anything.
    Bytes,
    /// A varint.
    Uint32,
    /// See [`Field::type_name`].
    Enum,
    /// Four bytes.
    Sfixed32,
    /// Eight bytes.
    Sfixed64,
    /// A zigzag varint.
    Sint32,
    /// A zigzag varint.
    Sint64,
}

impl Kind {
    fn of_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            11 => Kind::Message,
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            14 => Kind::Enum,
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            _ => return None,
        })
    }
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// In `snake_case`.
    pub name: &'static str,
    /// In the binary form.
    pub number: u32,
    /// What it holds.
    pub kind: Kind,
    /// Whether it is a list or a map.
    pub repeated: bool,
    /// The full name of its message or enum, with a dot in front.
    pub type_name: &'static str,
    /// The oneof that it is a member of.
    pub oneof: Option<usize>,
    /// `validate.FieldRules` in binary form.
    pub rules: &'static [u8],
    /// Its name in JSON where that is not the usual one.
    json_name: Option<&'static str>,
}

impl Field {
    fn decode(descriptor: &'static [u8]) -> Option<Self> {
        const REPEATED: u64 = 3;
        let mut field = Self {
            name: "",
            number: 0,
            kind: Kind::Message,
            repeated: false,
            type_name: "",
            oneof: None,
            rules: &[],
            json_name: None,
        };
        for part in Fields::of(descriptor) {
            match part.ok()? {
                (1, name) => field.name = name.text()?,
                (3, Payload::Varint(number)) => field.number = u32::try_from(number).ok()?,
                (4, Payload::Varint(label)) => field.repeated = label == REPEATED,
                (5, Payload::Varint(number)) => field.kind = Kind::of_number(number)?,
                (6, name) => field.type_name = name.text()?,
                (8, Payload::Bytes(options)) => field.rules = bytes(options, RULES).unwrap_or_default(),
                (9, Payload::Varint(oneof)) => field.oneof = Some(usize::try_from(oneof).ok()?),
                (10, name) => field.json_name = Some(name.text()?),
                _ => {}
            }
        }
        Some(field)
    }

    /// Whether an absent value can be told from the default of its type. Members of a oneof can, and so can what is
    /// `optional`, of which protobuf makes a oneof with one member.
    pub fn has_presence(&self) -> bool {
        self.kind == Kind::Message || self.oneof.is_some()
    }
}

/// An enum of the API: names and numbers.
#[derive(Debug)]
pub struct EnumType {
    /// In the order of the file; two may have the same number.
    pub values: Vec<(&'static str, i32)>,
}

impl EnumType {
    fn decode(descriptor: &'static [u8]) -> Option<Self> {
        let mut values = Vec::new();
        for part in Fields::of(descriptor) {
            let (2, Payload::Bytes(value)) = part.ok()? else { continue };
            let name = Fields::of(value).find_map(|part| match part {
                Ok((1, name)) => name.text(),
                _ => None,
            });
            values.push((name?, number(value, 2).unwrap_or(0) as i32));
        }
        Some(Self { values })
    }
}

fn number(message: &[u8], number: u32) -> Option<u64> {
    last(message, number)?.varint()
}

fn bytes(message: &[u8], number: u32) -> Option<&[u8]> {
    last(message, number)?.bytes()
}

fn last(message: &[u8], number: u32) -> Option<Payload<'_>> {
    Fields::of(message).filter_map(Result::ok).filter(|field| field.0 == number).last().map(|field| field.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All names below a descriptor, with whether they are an enum's.
    fn names(prefix: &str, descriptor: &'static [u8], is_enum: bool, out: &mut Vec<(String, bool)>) {
        let name = bytes(descriptor, 1).and_then(|name| std::str::from_utf8(name).ok()).unwrap();
        let name = format!("{prefix}.{name}");
        for part in Fields::of(descriptor).filter(|_| !is_enum) {
            if let (number @ (3 | 4), Payload::Bytes(nested)) = part.unwrap() {
                names(&name, nested, number == 4, out);
            }
        }
        out.push((name, is_enum));
    }

    fn all_names() -> Vec<(String, bool)> {
        let mut out = Vec::new();
        for file in Fields::of(split().1) {
            let file = file.unwrap().1.bytes().unwrap();
            let package = last(file, 2).unwrap().text().unwrap();
            for part in Fields::of(file) {
                if let (number @ (4 | 5), Payload::Bytes(descriptor)) = part.unwrap() {
                    names(package, descriptor, number == 5, &mut out);
                }
            }
        }
        out
    }

    #[test]
    fn the_index_has_every_message_and_enum_and_these_have_types_that_are_there() {
        let api = Api::default();
        let names = all_names();
        assert_eq!(names.len() * ROW, split().0.len());
        for (name, is_enum) in &names {
            if *is_enum {
                assert!(!api.enumeration(name).unwrap().values.is_empty(), "{name}");
                assert!(api.message(name).is_none());
                continue;
            }
            for field in &api.message(name).unwrap().fields {
                let found = match field.kind {
                    Kind::Message => api.message(field.type_name).is_some(),
                    Kind::Enum => api.enumeration(field.type_name).is_some(),
                    _ => field.type_name.is_empty(),
                };
                assert!(found && !field.name.is_empty() && field.number > 0, "{name}: {field:?}");
            }
        }
        assert!(api.message("envoy.config.cluster.v3.Clutser").is_none());
    }

    #[test]
    fn a_message_has_its_fields_by_name_and_by_number() {
        let api = Api::default();
        let cluster = api.message(".envoy.config.cluster.v3.Cluster").unwrap();
        assert_eq!(cluster.name, "envoy.config.cluster.v3.Cluster");
        let field = cluster.field("connect_timeout").unwrap();
        assert_eq!(
            (field.number, field.kind, field.type_name),
            (4, Kind::Message, ".google.protobuf.Duration")
        );
        assert!(!field.rules.is_empty() && !field.repeated);
        assert_eq!(cluster.field("connectTimeout").unwrap().number, 4);
        assert_eq!(cluster.field_of_number(4).unwrap().name, "connect_timeout");
        for name in ["ConnectTimeout", "connect_Timeout", "connectTimeout_", "connect"] {
            assert!(cluster.field(name).is_none(), "{name}");
        }
        let members: Vec<_> = cluster.members(0).map(|field| field.name).collect();
        assert_eq!(
            (cluster.oneofs[0].name, members),
            ("cluster_discovery_type", vec!["type", "cluster_type"])
        );
        let options = cluster.field("typed_extension_protocol_options").unwrap();
        assert_eq!(api.map_entry(options).unwrap().fields[1].type_name, ".google.protobuf.Any");
        assert!(api.map_entry(cluster.field("health_checks").unwrap()).is_none());
        let address = api.message("envoy.config.core.v3.Address").unwrap();
        assert!(address.oneofs[0].required && address.field("pipe").unwrap().has_presence());
        let policy = api.enumeration("envoy.config.cluster.v3.Cluster.LbPolicy").unwrap();
        assert_eq!(policy.values[4..6], [("MAGLEV", 5), ("CLUSTER_PROVIDED", 6)]);
    }
}
