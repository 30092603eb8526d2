//! What becomes of the path and the host of a request on its way.

use crate::common::regex::Substitution;
use crate::config::error::ConfigError;
use crate::config::extension::{Category, TypedConfig};
use crate::config::reader::{FromMessage, MessageReader};

/// `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
impl FromMessage for Substitution {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let by = r.string("substitution")?;
        let pattern = r.message_with("pattern", |r| {
            r.message_with("google_re2", |_| Ok(()))?;
            r.string("regex")
        })?;
        let pattern = pattern.unwrap_or_default();
        Substitution::new(&pattern, &by).map_err(|message| r.error("pattern.regex", message))
    }
}

/// What becomes of the path.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum PathRewrite {
    /// It stays.
    #[default]
    None,
    /// What the route has matched becomes this.
    Prefix(String),
    /// Parts of it, without its query, are replaced.
    Regex(Substitution),
    /// An extension makes another of it.
    Policy(TypedConfig),
    /// It becomes what this format makes, unless that is empty; its query stays.
    Format(String),
}

/// That of a route to a cluster, which may be an extension's.
pub(super) fn read_route_path_rewrite(
    r: &mut MessageReader<'_>,
    name: &str,
) -> Result<PathRewrite, ConfigError> {
    let rewrite = read_path_rewrite(r, name)?;
    let format = r.string("path_rewrite")?;
    if !format.is_empty() {
        if rewrite != PathRewrite::None || r.has("path_rewrite_policy") {
            r.refuse("path_rewrite", TWO_REWRITES);
        }
        return Ok(PathRewrite::Format(format));
    }
    match r.extension("path_rewrite_policy", Category::PathRewriters)? {
        None => Ok(rewrite),
        Some(policy) => {
            if rewrite != PathRewrite::None {
                r.refuse("path_rewrite_policy", TWO_REWRITES);
            }
            Ok(PathRewrite::Policy(policy))
        }
    }
}

const TWO_REWRITES: &str = "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy";

pub(super) fn read_path_rewrite(r: &mut MessageReader<'_>, _: &str) -> Result<PathRewrite, ConfigError> {
    let prefix = r.string("prefix_rewrite")?;
    let regex: Option<Substitution> = r.message("regex_rewrite")?;
    if !prefix.is_empty() && regex.is_some() {
        r.refuse("regex_rewrite", TWO_REWRITES);
    }
    Ok(match regex {
        Some(regex) => PathRewrite::Regex(regex),
        None if !prefix.is_empty() => PathRewrite::Prefix(prefix),
        None => PathRewrite::None,
    })
}

/// What becomes of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// It stays.
    #[default]
    None,
    /// This.
    Literal(String),
    /// The name of the host that the request is sent to.
    Auto,
    /// The value of a header, if that is there; its name is in lower case.
    Header(String),
    /// The path, without its query, with parts of it replaced.
    PathRegex(Substitution),
    /// What this format makes, unless that is empty.
    Format(String),
}

pub(super) fn read_host_rewrite(r: &mut MessageReader<'_>, _: &str) -> Result<HostRewrite, ConfigError> {
    let members = [
        "host_rewrite_literal",
        "auto_host_rewrite",
        "host_rewrite_header",
        "host_rewrite_path_regex",
        "host_rewrite",
    ];
    Ok(match r.at_most_one(&members)? {
        None => HostRewrite::None,
        Some("host_rewrite_literal") => HostRewrite::Literal(r.string("host_rewrite_literal")?),
        Some("auto_host_rewrite") if r.bool("auto_host_rewrite")? => HostRewrite::Auto,
        Some("auto_host_rewrite") => HostRewrite::None,
        Some("host_rewrite_header") => {
            HostRewrite::Header(r.string("host_rewrite_header")?.to_ascii_lowercase())
        }
        Some("host_rewrite") => HostRewrite::Format(r.string("host_rewrite")?),
        Some(_) => HostRewrite::PathRegex(r.required_message("host_rewrite_path_regex")?),
    })
}
