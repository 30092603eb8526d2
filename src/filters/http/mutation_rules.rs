//! Which headers somebody outside may change: `envoy.config.common.mutation_rules.v3.HeaderMutationRules`.
//!
//! Mirrors `Checker` of Envoy 1.40's `source/extensions/filters/common/mutation_rules/mutation_rules.cc`.

use crate::common::regex::CompiledMatcher;
use crate::message;

message! {
    /// What may be changed, by names.
    pub struct HeaderMutationRules = "envoy.config.common.mutation_rules.v3.HeaderMutationRules" {
        /// Also the host, the scheme and the method.
        pub allow_all_routing: bool,
        /// Also what begins with `x-envoy`.
        pub allow_envoy: bool,
        /// Nothing that begins with a colon.
        pub disallow_system: bool,
        /// Nothing but what `allow_expression` says.
        pub disallow_all: bool,
        /// These, unless `disallow_expression` says otherwise.
        pub allow_expression: Option<CompiledMatcher>,
        /// Not these.
        pub disallow_expression: Option<CompiledMatcher>,
        /// Who tries is in error; otherwise it is left out.
        pub disallow_is_error: bool,
    }
}

/// What is done to a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckOperation {
    /// It gets a value, or one more.
    Set,
    /// It goes.
    Remove,
}

impl HeaderMutationRules {
    /// Whether the header of this name, in lower case, may be changed.
    pub fn allows(&self, operation: CheckOperation, name: &str) -> bool {
        if operation == CheckOperation::Remove && (name.is_empty() || name.starts_with(':') || name == "host")
        {
            return false;
        }
        let is_in = |matcher: &Option<CompiledMatcher>| {
            matcher.as_ref().is_some_and(|matcher| matcher.matches(name.as_bytes()))
        };
        if is_in(&self.disallow_expression) {
            return false;
        }
        if is_in(&self.allow_expression) {
            return true;
        }
        let is_routing = matches!(name, ":authority" | "host" | ":scheme" | ":method");
        let is_refused = self.disallow_all
            || is_routing && !self.allow_all_routing
            || name.starts_with(':') && self.disallow_system
            || name.starts_with("x-envoy") && !self.allow_envoy;
        !is_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(text: &str) -> Option<CompiledMatcher> {
        Some(CompiledMatcher::new(text).unwrap())
    }

    #[test]
    fn names_that_may_be_changed() {
        let usual = HeaderMutationRules::default();
        let set = |rules: &HeaderMutationRules, name: &str| rules.allows(CheckOperation::Set, name);
        let which = |rules: &HeaderMutationRules| {
            let names = ["x-a", "x-envoy-a", "host", ":method", ":path"];
            names.into_iter().filter(|name| set(rules, name)).collect::<Vec<_>>()
        };
        assert_eq!(which(&usual), ["x-a", ":path"]);
        let envoy = HeaderMutationRules { allow_envoy: true, ..HeaderMutationRules::default() };
        assert_eq!(which(&envoy), ["x-a", "x-envoy-a", ":path"]);
        let routing = HeaderMutationRules { allow_all_routing: true, ..HeaderMutationRules::default() };
        assert_eq!(which(&routing), ["x-a", "host", ":method", ":path"]);
        let system = HeaderMutationRules { disallow_system: true, ..HeaderMutationRules::default() };
        assert_eq!(which(&system), ["x-a"]);
        let some = HeaderMutationRules {
            disallow_all: true,
            allow_expression: regex("x-.*"),
            disallow_expression: regex("x-a"),
            ..HeaderMutationRules::default()
        };
        assert_eq!(which(&some), ["x-envoy-a"]);
    }

    #[test]
    fn what_requests_need_is_never_removed() {
        let all = HeaderMutationRules {
            allow_all_routing: true,
            allow_envoy: true,
            allow_expression: regex(".*"),
            ..HeaderMutationRules::default()
        };
        for name in ["", "host", ":path"] {
            assert!(!all.allows(CheckOperation::Remove, name), "{name}");
        }
        assert!(all.allows(CheckOperation::Remove, "x-a"));
    }
}
