//! `/certs`: the certificates of all contexts. Mirrors `CertsHandler` of Envoy's `source/server/admin/server_info_handler.cc`
//! (`AdminImpl::handlerCerts` in 1.1).

use serde_json::{Value, json};

use super::{Request, Response};
use crate::config::timestamp;
use crate::network::tls::ContextCertificates;
use crate::network::tls::certificate::Certificate;
use crate::network::tls::config::SanType;
use crate::server::server::InstanceImpl;

/// One entry for each context, listeners' first.
pub(super) fn certs(server: &InstanceImpl, _request: &Request) -> Response {
    let listeners = server.listener_manager.listeners();
    let of_listeners = listeners.iter().flat_map(|listener| listener.certificates());
    let clusters = server.cluster_manager.clusters();
    let of_clusters =
        clusters.iter().flat_map(|cluster| cluster.info().transport_socket_factory().certificates());
    let entries: Vec<Value> = of_listeners.chain(of_clusters).map(|context| entry(&context)).collect();
    Response::json(&if entries.is_empty() { json!({}) } else { json!({ "certificates": entries }) })
}

fn entry(context: &ContextCertificates) -> Value {
    let all = |list: &[(String, &Certificate)]| -> Vec<Value> {
        list.iter().map(|(path, certificate)| details(path, certificate)).collect()
    };
    json!({ "ca_cert": all(&context.trusted()), "cert_chain": all(&context.local()) })
}

fn details(path: &str, certificate: &Certificate) -> Value {
    let name = |(kind, name): &(SanType, String)| {
        let field = match kind {
            SanType::Dns => "dns",
            SanType::Uri => "uri",
            SanType::IpAddress => "ip_address",
            SanType::Email => return None,
        };
        Some(json!({ field: name }))
    };
    // As Envoy has it: kind by kind.
    let kinds = [SanType::Dns, SanType::Uri, SanType::IpAddress];
    let of_kind = |kind| certificate.sans.iter().filter(move |(known, _)| *known == kind);
    let names: Vec<Value> = kinds.into_iter().flat_map(of_kind).filter_map(name).collect();
    json!({
        "path": path,
        "serial_number": certificate.serial_number,
        "subject_alt_names": names,
        "days_until_expiration": certificate.days_until_expiration().to_string(),
        "valid_from": timestamp(certificate.valid_from()),
        "expiration_time": timestamp(certificate.expiration()),
    })
}
