//! Extensions: what a configuration names by the type of an `Any`, and who can read it.
//!
//! Mirrors Envoy's `include/envoy/registry/registry.h` and, as of 1.40, `TypedFactory` and `getFactoryByType`. Where
//! a factory of Envoy is given the message that was read and casts it, one of legate reads the message itself and
//! answers with what its category makes things of (`F`, a trait of the floor that the category belongs to), so that
//! nobody casts. There is no global registry: who reads a document says which extensions there are.

use std::any::{Any, type_name};
use std::fmt::Debug;
use std::sync::Arc;

use super::error::ConfigError;
use super::reader::{MessageReader, unknown_type};

/// The kinds of extensions, in the order in which they are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// What is told of a stream that has ended.
    AccessLoggers,
    /// Which streams are told of.
    AccessLogFilters,
    /// Where the hosts of a cluster come from.
    Clusters,
    /// What makes bodies smaller.
    Compressors,
    /// What makes them as they were.
    Decompressors,
    /// Who looks names up.
    DnsResolvers,
    /// Commands of formats.
    Formatters,
    /// Who is told of what health checks find.
    HealthCheckEventSinks,
    /// What is done to a request's headers before anything else.
    EarlyHeaderMutations,
    /// Filters on the streams of a connection manager.
    HttpFilters,
    /// Where the client's address comes from.
    OriginalIpDetections,
    /// Which paths a route is for.
    PathMatchers,
    /// What becomes of paths.
    PathRewriters,
    /// How requests get their ids.
    RequestIds,
    /// How the names of fields are written.
    StatefulHeaderFormatters,
    /// What a route says to one of those; of legate's alone.
    RouteFilterConfigs,
    /// Filters on accepted sockets.
    ListenerFilters,
    /// Filters on connections.
    NetworkFilters,
    /// Which redirects may be followed.
    InternalRedirectPredicates,
    /// How a host is chosen.
    LoadBalancingPolicies,
    /// Which hosts are not wanted for another try.
    RetryHostPredicates,
    /// Which priorities are not wanted for another try.
    RetryPriorities,
    /// The transports of connections that were accepted.
    DownstreamTransportSockets,
    /// The transports of connections to hosts.
    UpstreamTransportSockets,
}

impl Category {
    /// Those whose members are extensions of their own.
    pub const ALL: [Category; 23] = [
        Category::AccessLoggers,
        Category::AccessLogFilters,
        Category::Clusters,
        Category::Compressors,
        Category::Decompressors,
        Category::HttpFilters,
        Category::ListenerFilters,
        Category::NetworkFilters,
        Category::Formatters,
        Category::HealthCheckEventSinks,
        Category::EarlyHeaderMutations,
        Category::OriginalIpDetections,
        Category::StatefulHeaderFormatters,
        Category::InternalRedirectPredicates,
        Category::LoadBalancingPolicies,
        Category::DnsResolvers,
        Category::PathMatchers,
        Category::PathRewriters,
        Category::RequestIds,
        Category::RetryHostPredicates,
        Category::RetryPriorities,
        Category::DownstreamTransportSockets,
        Category::UpstreamTransportSockets,
    ];

    /// As 1.40 has it.
    pub fn name(self) -> &'static str {
        match self {
            Category::AccessLoggers => "envoy.access_loggers",
            Category::AccessLogFilters => "envoy.access_loggers.extension_filters",
            Category::Clusters => "envoy.clusters",
            Category::Compressors => "envoy.compression.compressor",
            Category::Decompressors => "envoy.compression.decompressor",
            Category::DnsResolvers => "envoy.network.dns_resolver",
            Category::Formatters => "envoy.formatter",
            Category::HealthCheckEventSinks => "envoy.health_check.event_sinks",
            Category::EarlyHeaderMutations => "envoy.http.early_header_mutation",
            Category::HttpFilters => "envoy.filters.http",
            Category::OriginalIpDetections => "envoy.http.original_ip_detection",
            Category::PathMatchers => "envoy.path.match",
            Category::PathRewriters => "envoy.path.rewrite",
            Category::RequestIds => "envoy.request_id",
            Category::StatefulHeaderFormatters => "envoy.http.stateful_header_formatters",
            Category::RouteFilterConfigs => "envoy.filters.http.route",
            Category::ListenerFilters => "envoy.filters.listener",
            Category::NetworkFilters => "envoy.filters.network",
            Category::InternalRedirectPredicates => "envoy.internal_redirect_predicates",
            Category::LoadBalancingPolicies => "envoy.load_balancing_policies",
            Category::RetryHostPredicates => "envoy.retry_host_predicates",
            Category::RetryPriorities => "envoy.retry_priorities",
            Category::DownstreamTransportSockets => "envoy.transport_sockets.downstream",
            Category::UpstreamTransportSockets => "envoy.transport_sockets.upstream",
        }
    }
}

/// An extension, whatever it makes.
pub trait TypedFactory: Sync {
    /// Its name, `envoy.filters.http.router` for instance.
    fn name(&self) -> &'static str;
    /// The full names of the messages that it reads.
    fn config_types(&self) -> &'static [&'static str];
    /// Whether nothing can come after it in a chain of filters.
    fn is_terminal(&self) -> bool;
    /// Reads its message.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&self, r: &mut MessageReader<'_>) -> Result<TypedConfig, ConfigError>;
    /// Reads what the message that names it says of it; `None` if it is only known by its own message.
    fn read_around(&self, _r: &mut MessageReader<'_>) -> Option<Result<TypedConfig, ConfigError>> {
        None
    }
}

/// An extension that makes things of `F`.
pub struct Factory<F: ?Sized + 'static> {
    name: &'static str,
    config_types: &'static [&'static str],
    is_terminal: bool,
    read: ReadConfig<F>,
    read_around: Option<ReadConfig<F>>,
}

/// Reads a configuration.
pub type ReadConfig<F> = fn(&mut MessageReader<'_>) -> Result<Arc<F>, ConfigError>;

impl<F: ?Sized> Factory<F> {
    /// An extension under Envoy's name for it, which reads messages of these types.
    pub const fn new(name: &'static str, config_types: &'static [&'static str], read: ReadConfig<F>) -> Self {
        Factory { name, config_types, is_terminal: false, read, read_around: None }
    }

    /// One that may be named without a message of its own, as by a value of an enum: `read` is then given the message
    /// that names it (Envoy: `loadLegacy`).
    pub const fn or_around(self, read: ReadConfig<F>) -> Self {
        Factory { read_around: Some(read), ..self }
    }

    /// Its name.
    pub const fn extension_name(&self) -> &'static str {
        self.name
    }

    /// A filter that nothing can come after.
    pub const fn terminal(self) -> Self {
        Factory { is_terminal: true, ..self }
    }
}

impl<F: ?Sized + Debug + Send + Sync> TypedFactory for Factory<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn config_types(&self) -> &'static [&'static str] {
        self.config_types
    }

    fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn read(&self, r: &mut MessageReader<'_>) -> Result<TypedConfig, ConfigError> {
        let config = TypedConfig::new(self.name, (self.read)(r)?);
        Ok(TypedConfig { is_terminal: self.is_terminal, ..config })
    }

    fn read_around(&self, r: &mut MessageReader<'_>) -> Option<Result<TypedConfig, ConfigError>> {
        let read = self.read_around?;
        Some(read(r).map(|config| TypedConfig::new(self.name, config)))
    }
}

/// The extensions that a document may name.
pub trait Extensions: Sync {
    /// All of a category.
    fn factories(&self, category: Category) -> Vec<&'static dyn TypedFactory>;
}

impl Debug for dyn Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extensions")
    }
}

/// For documents, and tests, without any.
pub struct NoExtensions;

impl Extensions for NoExtensions {
    fn factories(&self, _category: Category) -> Vec<&'static dyn TypedFactory> {
        Vec::new()
    }
}

/// A configuration that an extension has read. Two are equal if they print the same.
#[derive(Clone)]
pub struct TypedConfig {
    extension: &'static str,
    is_terminal: bool,
    config: Arc<dyn Read>,
}

/// An `Arc<F>` that can be found again and be printed.
trait Read: Any + Debug + Send + Sync {}

impl<T: Any + Debug + Send + Sync> Read for T {}

impl TypedConfig {
    /// As if the extension had read `config`.
    pub fn new<F: ?Sized + Debug + Send + Sync + 'static>(extension: &'static str, config: Arc<F>) -> Self {
        TypedConfig { extension, is_terminal: false, config: Arc::new(config) }
    }

    /// The name of the extension.
    pub fn extension(&self) -> &'static str {
        self.extension
    }

    /// Whether nothing can come after it in a chain of filters.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// What things are made of.
    ///
    /// # Errors
    /// It belongs to another category, which one that was read never does.
    pub fn get<F: ?Sized + Debug + Send + Sync + 'static>(&self) -> Result<&Arc<F>, ConfigError> {
        let config: &dyn Any = &*self.config;
        config
            .downcast_ref()
            .ok_or_else(|| ConfigError::document(format!("{} is no {}", self.extension, type_name::<F>())))
    }
}

impl Debug for TypedConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

impl PartialEq for TypedConfig {
    fn eq(&self, other: &Self) -> bool {
        self.extension == other.extension && format!("{self:?}") == format!("{other:?}")
    }
}

impl MessageReader<'_> {
    /// The configuration of an extension of `category`, in the `Any` of this name, which has to be present.
    ///
    /// # Errors
    /// It is not there, no extension reads its type, or it is wrong.
    pub fn typed_config(&mut self, name: &str, category: Category) -> Result<TypedConfig, ConfigError> {
        let (type_name, config) = self.any(name)?;
        read_any(type_name, config, category)
    }

    /// As [`MessageReader::typed_config`], and `None` where it is not present.
    ///
    /// # Errors
    /// As there.
    pub fn opt_typed_config(
        &mut self,
        name: &str,
        category: Category,
    ) -> Result<Option<TypedConfig>, ConfigError> {
        self.has(name).then(|| self.typed_config(name, category)).transpose()
    }

    /// The configuration of an extension of `category`, in the `TypedExtensionConfig` of this name.
    ///
    /// # Errors
    /// As [`MessageReader::typed_config`].
    pub fn extension(&mut self, name: &str, category: Category) -> Result<Option<TypedConfig>, ConfigError> {
        self.message_with(name, |r| read_extension(r, category))
    }

    /// The configurations of extensions of `category`, in the list of `TypedExtensionConfig`s of this name.
    ///
    /// # Errors
    /// As [`MessageReader::typed_config`].
    pub fn extensions_of(&mut self, name: &str, category: Category) -> Result<Vec<TypedConfig>, ConfigError> {
        self.messages_with(name, |r| read_extension(r, category))
    }

    /// As [`MessageReader::typed_config`], and `None` where no extension reads its type.
    ///
    /// # Errors
    /// It is not there, or wrong.
    pub fn known_config(
        &mut self,
        name: &str,
        category: Category,
    ) -> Result<Option<TypedConfig>, ConfigError> {
        let (type_name, config) = self.any(name)?;
        let is_known = config.is_known(type_name, category);
        is_known.then(|| config.read_any(type_name, category)).transpose()
    }

    fn is_known(&self, type_name: &str, category: Category) -> bool {
        let factories = self.extensions().factories(category);
        factories.iter().any(|factory| factory.config_types().contains(&type_name))
    }

    /// Whether this is a message of the API that no extension of `category` reads.
    pub fn is_left_out(&self, type_name: &str, category: Category) -> bool {
        self.is_of_the_api() && !self.is_known(type_name, category)
    }

    /// The configuration of an extension of `category`: this message, which is of that type.
    ///
    /// # Errors
    /// No extension reads its type, or it is wrong.
    pub fn read_any(self, type_name: &str, category: Category) -> Result<TypedConfig, ConfigError> {
        read_any(type_name, self, category)
    }

    /// The extension of `category` that is known under this name, as this message says more of it.
    pub fn named_config(
        &mut self,
        name: &str,
        category: Category,
    ) -> Option<Result<TypedConfig, ConfigError>> {
        let factories = self.extensions().factories(category);
        factories.iter().find(|factory| factory.name() == name)?.read_around(self)
    }

    /// An extension of `category` that a value of the enum `name` stands for: `values` gives their names. One that is
    /// not linked in is not supported. `None` where the field is absent or wrong.
    ///
    /// # Errors
    /// What is wrong with what this message says of it.
    pub fn enumerated_config(
        &mut self,
        name: &str,
        values: &'static [(&'static str, &'static str)],
        category: Category,
    ) -> Result<Option<TypedConfig>, ConfigError> {
        let factories = self.extensions().factories(category);
        let linked = |extension: &str| factories.iter().any(|factory| factory.name() == extension);
        let table: Vec<_> = values.iter().copied().filter(|(_, extension)| linked(extension)).collect();
        let Some(extension) = self.enumeration(name, &table)? else { return Ok(None) };
        self.named_config(extension, category).transpose()
    }
}

fn read_extension(r: &mut MessageReader<'_>, category: Category) -> Result<TypedConfig, ConfigError> {
    r.string("name")?;
    r.typed_config("typed_config", category)
}

/// The type of the message in a `TypedExtensionConfig`, and a reader for it.
pub(super) fn read_name<'a>(r: &mut MessageReader<'a>) -> Result<(&'a str, MessageReader<'a>), ConfigError> {
    r.string("name")?;
    r.any("typed_config")
}

fn read_any(
    type_name: &str,
    config: MessageReader<'_>,
    category: Category,
) -> Result<TypedConfig, ConfigError> {
    let factories = config.extensions().factories(category);
    config.read_with(|config| {
        let factory = factories.iter().find(|factory| factory.config_types().contains(&type_name));
        let supported = || factories.iter().flat_map(|f| f.config_types()).copied().collect::<Vec<_>>();
        factory.ok_or_else(|| unknown_type(config, type_name, &supported()))?.read(config)
    })
}
