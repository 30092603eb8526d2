//! [`Level`]: how important a message is (spdlog's levels, as Envoy names them).

/// The importance of a message, or the least one that a component logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Every step.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to know.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
    /// The server cannot go on.
    Critical,
    /// As the level of a component: log nothing.
    Off,
}

impl Level {
    /// All levels, the least important first.
    pub const ALL: [Level; 7] =
        [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical, Level::Off];

    /// The name that users see; that of `Warn` is `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Off => "off",
        }
    }

    /// The level of that name; what the admin interface accepts.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// The level of that name or `warn`; what the command line accepts.
    pub fn from_option(name: &str) -> Option<Level> {
        if name == "warn" { Some(Level::Warn) } else { Level::from_name(name) }
    }

    /// `T`, `D`, `I`, `W`, `E`, `C` or `O`.
    pub(super) const fn letter(self) -> char {
        match self {
            Level::Trace => 'T',
            Level::Debug => 'D',
            Level::Info => 'I',
            Level::Warn => 'W',
            Level::Error => 'E',
            Level::Critical => 'C',
            Level::Off => 'O',
        }
    }

    /// The nearest level of the `log` crate for a message.
    pub(super) const fn log_level(self) -> log::Level {
        match self {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error | Level::Critical | Level::Off => log::Level::Error,
        }
    }

    /// The level of a message of the `log` crate.
    pub(super) const fn from_log(level: log::Level) -> Level {
        match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        }
    }

    /// The filter that lets through what this level does; `log` knows nothing above error.
    pub(super) const fn filter(self) -> log::LevelFilter {
        match self {
            Level::Trace => log::LevelFilter::Trace,
            Level::Debug => log::LevelFilter::Debug,
            Level::Info => log::LevelFilter::Info,
            Level::Warn => log::LevelFilter::Warn,
            Level::Error => log::LevelFilter::Error,
            Level::Critical | Level::Off => log::LevelFilter::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_option(level.name()), Some(level));
        }
        assert_eq!(Level::Warn.name(), "warning");
    }

    #[test]
    fn warn_is_an_option_but_no_name() {
        assert_eq!(Level::from_option("warn"), Some(Level::Warn));
        assert_eq!(Level::from_name("warn"), None);
    }

    #[test]
    fn other_names_are_unknown() {
        for name in ["", "err", "WARN", "Info", "fatal"] {
            assert_eq!(Level::from_option(name), None, "{name}");
        }
    }

    #[test]
    fn levels_of_the_log_crate_are_kept() {
        for level in [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error] {
            assert_eq!(Level::from_log(level.log_level()), level);
            assert_eq!(level.filter(), level.log_level().to_level_filter());
        }
        assert_eq!(Level::Off.filter(), log::LevelFilter::Off);
    }
}
