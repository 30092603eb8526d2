//! [`OptionsOutcome`]: what a command line asks for other than to serve.

use std::process::ExitCode;

/// Why the process ends after reading the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsOutcome {
    /// `--help` or `--version`: a text for standard output, success.
    Text(String),
    /// `--hot-restart-version`: a text for standard error, where Envoy writes it, success.
    HotRestartVersion(String),
    /// A bad command line: a message for standard error, failure.
    Error(String),
}

impl OptionsOutcome {
    /// Writes the text where it belongs and gives the status to exit with.
    pub fn report(&self) -> ExitCode {
        match self {
            OptionsOutcome::Text(text) => print!("{text}"),
            OptionsOutcome::HotRestartVersion(text) | OptionsOutcome::Error(text) => eprint!("{text}"),
        }
        ExitCode::from(self.exit_code())
    }

    /// 1 for an error, else 0.
    pub fn exit_code(&self) -> u8 {
        match self {
            OptionsOutcome::Text(_) | OptionsOutcome::HotRestartVersion(_) => 0,
            OptionsOutcome::Error(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_fail() {
        let text = String::new;
        assert_eq!(OptionsOutcome::Text(text()).exit_code(), 0);
        assert_eq!(OptionsOutcome::HotRestartVersion(text()).exit_code(), 0);
        assert_eq!(OptionsOutcome::Error(text()).exit_code(), 1);
    }
}
