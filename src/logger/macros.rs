//! The logging macros (Envoy `ENVOY_LOG`, `ENVOY_CONN_LOG` and `ENVOY_STREAM_LOG`).
//!
//! All take a component as named in [`Id`](super::Id) and a level: `trace`, `debug`, `info`, `warn`,
//! `error` or `critical`. When that level is off for the component nothing else is evaluated.

/// Logs a message: `envoy_log!(Main, info, "starting {} workers", n)`.
#[macro_export]
macro_rules! envoy_log {
    ($id:ident, $level:ident, $($message:tt)+) => {
        if $crate::logger::enabled($crate::logger::Id::$id, $crate::__log_level!($level)) {
            $crate::logger::write(
                $crate::logger::Id::$id,
                $crate::__log_level!($level),
                $crate::logger::Location { file: file!(), line: line!(), module: module_path!() },
                format_args!($($message)+),
            );
        }
    };
}

/// Logs a message about a connection, after `[C<connection id>] `:
/// `envoy_conn_log!(Pool, debug, connection.id(), "closing")`.
#[macro_export]
macro_rules! envoy_conn_log {
    ($id:ident, $level:ident, $connection:expr, $($message:tt)+) => {
        $crate::envoy_log!($id, $level, "[C{}] {}", $connection, format_args!($($message)+))
    };
}

/// Logs a message about a stream, after `[C<connection id>][S<stream id>] `:
/// `envoy_stream_log!(Http, debug, connection_id, stream_id, "request end stream")`.
#[macro_export]
macro_rules! envoy_stream_log {
    ($id:ident, $level:ident, $connection:expr, $stream:expr, $($message:tt)+) => {
        $crate::envoy_log!($id, $level, "[C{}][S{}] {}", $connection, $stream, format_args!($($message)+))
    };
}

/// The [`Level`](crate::logger::Level) of a lowercase name.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_level {
    (trace) => {
        $crate::logger::Level::Trace
    };
    (debug) => {
        $crate::logger::Level::Debug
    };
    (info) => {
        $crate::logger::Level::Info
    };
    (warn) => {
        $crate::logger::Level::Warn
    };
    (error) => {
        $crate::logger::Level::Error
    };
    (critical) => {
        $crate::logger::Level::Critical
    };
}
