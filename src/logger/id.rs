//! The components that log (Envoy `Logger::Id`), with the names and the order of Envoy 1.40, so that any
//! `--component-log-level` written for it is understood.

macro_rules! ids {
    ($($id:ident $name:literal,)+) => {
        /// A component that logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Id {
            $(#[doc = concat!("`", $name, "`")] $id,)+
        }

        impl Id {
            /// All components, in the order in which they are listed to users.
            pub const ALL: &'static [Id] = &[$(Id::$id,)+];

            /// The name that users see.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Id::$id => $name,)+
                }
            }
        }
    };
}

ids! {
    A2a "a2a",
    Admin "admin",
    AiProtocolManager "ai_protocol_manager",
    AlternateProtocolsCache "alternate_protocols_cache",
    Aws "aws",
    Assert "assert",
    Backtrace "backtrace",
    BasicAuth "basic_auth",
    CacheFilter "cache_filter",
    Client "client",
    Config "config",
    Connection "connection",
    ConnHandler "conn_handler",
    Compression "compression",
    CredentialInjector "credential_injector",
    Decompression "decompression",
    Dns "dns",
    Dubbo "dubbo",
    EnvoyBug "envoy_bug",
    ExtAuthz "ext_authz",
    ExtProc "ext_proc",
    Rocketmq "rocketmq",
    File "file",
    Filter "filter",
    ForwardProxy "forward_proxy",
    Geolocation "geolocation",
    Grpc "grpc",
    HappyEyeballs "happy_eyeballs",
    Hc "hc",
    HealthChecker "health_checker",
    Http "http",
    Http2 "http2",
    Hystrix "hystrix",
    Init "init",
    Io "io",
    Jwt "jwt",
    JsonRpc "json_rpc",
    Kafka "kafka",
    KeyValueStore "key_value_store",
    Lua "lua",
    LocalRateLimit "local_rate_limit",
    Main "main",
    Matcher "matcher",
    Mcp "mcp",
    Misc "misc",
    Mongo "mongo",
    MultiConnection "multi_connection",
    Notification "notification",
    Oauth2 "oauth2",
    Quic "quic",
    QuicStream "quic_stream",
    Pool "pool",
    RateLimitQuota "rate_limit_quota",
    Rbac "rbac",
    Rds "rds",
    Redis "redis",
    Router "router",
    Runtime "runtime",
    Stats "stats",
    Secret "secret",
    Sse "sse",
    Tap "tap",
    Testing "testing",
    Thrift "thrift",
    Tracing "tracing",
    Upstream "upstream",
    Udp "udp",
    Wasm "wasm",
    Websocket "websocket",
    Golang "golang",
    StatsSinks "stats_sinks",
    DynamicModules "dynamic_modules",
    IpTagging "ip_tagging",
}

impl Id {
    /// The component of that name.
    pub fn from_name(name: &str) -> Option<Id> {
        Id::ALL.iter().copied().find(|id| id.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for id in Id::ALL {
            assert_eq!(Id::from_name(id.name()), Some(*id));
        }
        assert_eq!(Id::from_name("upstream"), Some(Id::Upstream));
        assert_eq!(Id::from_name("conn_handler"), Some(Id::ConnHandler));
        assert_eq!(Id::from_name("Upstream"), None);
        assert_eq!(Id::from_name(""), None);
    }

    #[test]
    fn the_number_of_an_id_is_its_place_in_the_list() {
        assert!(Id::ALL.iter().enumerate().all(|(i, id)| *id as usize == i));
    }
}
