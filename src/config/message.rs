//! [`message!`](crate::message): a message of the API as a struct, each of its fields declared once.
//!
//! Stands where Envoy has the generated classes, and the `PROTOBUF_GET_*` macros that give an absent field its default.

use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader};

/// What a field can be read as.
pub trait FieldValue: Sized {
    /// The field `name`; `None` when it is absent, or wrong, which is noted then.
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self>;
}

macro_rules! read_by {
    ($($type:ty: $method:ident),* $(,)?) => {
        $(impl FieldValue for $type {
            fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
                r.$method(name).ok().flatten()
            }
        })*
    };
}

read_by! { bool: opt_bool, u32: opt_u32, u64: opt_u64, f64: opt_f64, Duration: duration }

impl FieldValue for String {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.string(name).ok().filter(|text| !text.is_empty())
    }
}

/// For what the API's rules keep within its range.
impl FieldValue for u16 {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.opt_u32(name).ok().flatten().map(|number| number as u16)
    }
}

impl FieldValue for Vec<u16> {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.u32s(name).ok().map(|numbers| numbers.into_iter().map(|number| number as u16).collect())
    }
}

impl FieldValue for Vec<u32> {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.u32s(name).ok()
    }
}

impl FieldValue for Vec<String> {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.strings(name).ok()
    }
}

/// A boolean of which only `false` is supported yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnlyFalse;

impl FieldValue for OnlyFalse {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.unsupported_if_true(name).ok().map(|()| OnlyFalse)
    }
}

/// `None` when the field is absent.
impl<T: FieldValue> FieldValue for Option<T> {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        Some(T::read(r, name))
    }
}

impl<T: FromMessage> FieldValue for T {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.message(name).ok().flatten()
    }
}

/// What is large where few have it.
impl<T: FromMessage> FromMessage for Box<T> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        T::read(r).map(Box::new)
    }
}

/// What several places hold a share of.
impl<T: FromMessage> FromMessage for Arc<T> {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        T::read(r).map(Arc::new)
    }
}

impl<T: FromMessage> FieldValue for Vec<T> {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Option<Self> {
        r.messages(name).ok()
    }
}

/// What a member of a oneof can be read as.
pub trait MemberValue: Sized {
    /// The field `name`, which is there.
    ///
    /// # Errors
    /// It is wrong.
    fn read(r: &mut MessageReader<'_>, name: &str) -> Result<Self, ConfigError>;
}

impl MemberValue for String {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Result<Self, ConfigError> {
        r.string(name)
    }
}

impl<T: FromMessage> MemberValue for T {
    fn read(r: &mut MessageReader<'_>, name: &str) -> Result<Self, ConfigError> {
        r.required_message(name)
    }
}

/// Declares an enum for a oneof of which one member has to be set, each of them once: makes it and `read_member`, which
/// a [`message!`](crate::message) names behind `=>`. One with the name of a message stands for that message, which has
/// nothing else.
#[macro_export]
macro_rules! one_of {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident = $message:literal {
            $($(#[$member_attribute:meta])* $member:ident($type:ty) = $field:literal,)*
        }
    ) => {
        $crate::one_of! {
            $(#[$attribute])*
            pub enum $name {
                $($(#[$member_attribute])* $member($type) = $field,)*
            }
        }

        impl $crate::config::reader::FromMessage for $name {
            fn read(
                r: &mut $crate::config::reader::MessageReader<'_>,
            ) -> Result<Self, $crate::config::ConfigError> {
                debug_assert!(r.is_of($message), concat!("what is read is no ", $message));
                Self::read_member(r, "")
            }
        }
    };
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[$member_attribute:meta])* $member:ident($type:ty) = $field:literal,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($(#[$member_attribute])* $member($type),)*
        }

        impl $name {
            fn read_member(
                r: &mut $crate::config::reader::MessageReader<'_>,
                _: &str,
            ) -> Result<Self, $crate::config::ConfigError> {
                use $crate::config::message::MemberValue;
                r.one_of(&[$(($field, |r, name| <$type as MemberValue>::read(r, name).map(Self::$member)),)*])
            }
        }
    };
}

/// Lets enums, which have a `TABLE`, stand in a [`message!`](crate::message).
#[macro_export]
macro_rules! enum_fields {
    ($($type:ty),* $(,)?) => {
        $(impl $crate::config::message::FieldValue for $type {
            fn read(r: &mut $crate::config::reader::MessageReader<'_>, name: &str) -> Option<Self> {
                r.enumeration(name, <$type>::TABLE).ok().flatten()
            }
        })*
    };
}

/// Declares a struct for a message of the API, whose fields have the names that they have there: makes it, its
/// `Default` and its [`FromMessage`]. A field without a default has that of its type. What is no plain field, the name
/// of an extension or one of several, is read by the function behind `=>`, which is given the reader and the name. A
/// message that has to have something, and thus no default, is a `pub message`. `checked by` names a function that is
/// given the reader and the struct, to refuse what no rule of the API says.
#[macro_export]
macro_rules! message {
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@read $r:ident $name:expr, $type:ty, ($($default:expr)?) ()) => {
        <$type as $crate::config::message::FieldValue>::read($r, $name)
            .unwrap_or_else(|| $crate::message!(@default $($default)?))
    };
    (@read $r:ident $name:expr, $type:ty, ($($default:expr)?) ($read:path)) => { $read($r, $name) };
    (@take $field:ident ()) => { $field };
    (@take $field:ident ($read:path)) => { $field? };
    (
        $(#[$attribute:meta])*
        pub struct $name:ident = $message:literal $(or $other:literal)* $(, checked by $check:path)? {
            $($(#[$field_attribute:meta])* pub $field:ident: $type:ty $(= $default:expr)? $(=> $read:path)?,)*
        }
    ) => {
        $crate::message! {
            $(#[$attribute])*
            pub message $name = $message $(or $other)* $(, checked by $check)? {
                $($(#[$field_attribute])* pub $field: $type $(= $default)? $(=> $read)?,)*
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::message!(@default $($default)?),)* }
            }
        }
    };
    (
        $(#[$attribute:meta])*
        pub message $name:ident = $message:literal $(or $other:literal)* $(, checked by $check:path)? {
            $($(#[$field_attribute:meta])* pub $field:ident: $type:ty $(= $default:expr)? $(=> $read:path)?,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)*
        }

        impl $crate::config::reader::FromMessage for $name {
            fn read(
                r: &mut $crate::config::reader::MessageReader<'_>,
            ) -> Result<Self, $crate::config::ConfigError> {
                debug_assert!(r.is_of($message) $(|| r.is_of($other))*, concat!("what is read is no ", $message));
                // All are asked for before one that is missing ends it.
                $(let $field = $crate::message!(@read r stringify!($field), $type, ($($default)?) ($($read)?));)*
                let message = Self { $($field: $crate::message!(@take $field ($($read)?)),)* };
                $($check(r, &message);)?
                Ok(message)
            }
        }
    };
}
