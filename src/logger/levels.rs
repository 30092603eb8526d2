//! The level of each component (Envoy `Logger::Registry`).

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::{Id, Level};

/// One level per component, read by all threads without a lock.
pub(super) struct Levels([AtomicU8; Id::ALL.len()]);

impl Levels {
    /// All components at `level`.
    pub(super) const fn new(level: Level) -> Self {
        let mut levels = [const { AtomicU8::new(0) }; Id::ALL.len()];
        let mut i = 0;
        while i < levels.len() {
            levels[i] = AtomicU8::new(level as u8);
            i += 1;
        }
        Levels(levels)
    }

    #[inline]
    pub(super) fn enabled(&self, id: Id, level: Level) -> bool {
        self.0[id as usize].load(Relaxed) <= level as u8
    }

    pub(super) fn get(&self, id: Id) -> Level {
        Level::ALL[usize::from(self.0[id as usize].load(Relaxed))]
    }

    pub(super) fn set(&self, id: Id, level: Level) {
        self.0[id as usize].store(level as u8, Relaxed);
    }

    pub(super) fn set_all(&self, level: Level) {
        for id in Id::ALL {
            self.set(*id, level);
        }
    }
}

/// Reads `name:level,...` as `--component-log-level` has it. An empty text is an empty list. The error
/// is Envoy's message.
pub fn parse_component_levels(text: &str) -> Result<Vec<(Id, Level)>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(parse_component_level).collect()
}

fn parse_component_level(text: &str) -> Result<(Id, Level), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [name, level] = parts[..] else {
        return Err(format!("error: component log level not correctly specified '{text}'"));
    };
    let level =
        Level::from_option(level).ok_or_else(|| format!("error: invalid log level specified '{level}'"))?;
    let id = Id::from_name(name).ok_or_else(|| format!("error: invalid component specified '{name}'"))?;
    Ok((id, level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_lets_through_itself_and_what_is_above() {
        let levels = Levels::new(Level::Info);
        levels.set(Id::Pool, Level::Debug);
        levels.set(Id::Http, Level::Off);
        assert!(levels.enabled(Id::Pool, Level::Debug) && levels.enabled(Id::Pool, Level::Critical));
        assert!(!levels.enabled(Id::Pool, Level::Trace));
        assert!(!levels.enabled(Id::Main, Level::Debug) && levels.enabled(Id::Main, Level::Info));
        assert!(!levels.enabled(Id::Http, Level::Critical));
        assert_eq!(levels.get(Id::Http), Level::Off);
    }

    #[test]
    fn set_all_sets_all() {
        let levels = Levels::new(Level::Off);
        levels.set_all(Level::Warn);
        assert!(Id::ALL.iter().all(|id| levels.get(*id) == Level::Warn));
    }

    #[test]
    fn component_levels_are_read_in_order() {
        let parsed = parse_component_levels("upstream:debug,config:trace,main:warn,rds:warning");
        let expected = [
            (Id::Upstream, Level::Debug),
            (Id::Config, Level::Trace),
            (Id::Main, Level::Warn),
            (Id::Rds, Level::Warn),
        ];
        assert_eq!(parsed, Ok(expected.to_vec()));
        assert_eq!(parse_component_levels(""), Ok(vec![]));
    }

    #[test]
    fn bad_component_levels_are_named() {
        let cases = [
            ("upstream", "error: component log level not correctly specified 'upstream'"),
            ("upstream:debug,", "error: component log level not correctly specified ''"),
            ("a:b:c", "error: component log level not correctly specified 'a:b:c'"),
            ("foo:bogus", "error: invalid log level specified 'bogus'"),
            ("main:info,foo:debug", "error: invalid component specified 'foo'"),
        ];
        for (text, error) in cases {
            assert_eq!(parse_component_levels(text), Err(error.to_string()), "{text}");
        }
    }
}
