//! Commands of formats, with what they print of requests that end in different ways.

use super::retries::{get, post, status, with_body};
use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

/// Routes to where nobody listens, to hosts, and an answer at once; requests to `/v` are a virtual cluster's.
fn manager() -> Value {
    let retried = json!({"retry_on": "5xx,connect-failure", "num_retries": 1, "retry_back_off": {"base_interval": "0.001s"}});
    json!({"route_config": {"virtual_hosts": [{
        "name": "v", "domains": ["*"],
        "virtual_clusters": [{"name": "of v", "headers": [{"name": ":path", "string_match": {"prefix": "/v"}}]}],
        "routes": [
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 201}},
            {"match": {"prefix": "/refused"}, "route": {"cluster": "refused", "retry_policy": retried}},
            {"match": {"prefix": "/none"}, "route": {"cluster": "nohosts"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "case0", "retry_policy": retried, "timeout": "0.2s"}},
        ],
    }]}})
}

fn requests(format: &str) -> Pairs {
    let never = vec![Action::Until(b"what never comes".to_vec())];
    Pairs::new(manager())
        .log_format(format)
        .told(get("/", ""), [status("200", "")])
        .told(get("/v", ""), [with_body("503"), status("200", "")])
        .told(get("/v", ""), [vec![Action::Close], vec![Action::Close]])
        .told(post(5), [status("200", "")])
        .told(get("/", ""), [never])
        .told(get("/direct", ""), [])
        .told(get("/refused", ""), [])
        .told(get("/none", ""), [])
        .told("nonsense\r\n\r\n".to_string(), [])
}

#[test]
fn upstreams() {
    requests(
        "%RESPONSE_CODE% %UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT% %UPSTREAM_HOST_NAMES_ATTEMPTED% \
        %UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT% %VIRTUAL_CLUSTER_NAME% \
        %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_PROTOCOL% %CUSTOM_FLAGS%|\
        %DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID%|%DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID%|\
        %UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID%|%UPSTREAM_SERVER_NAME% %DOWNSTREAM_PEER_CERT_V_START(%Y)% \
        %DOWNSTREAM_PEER_CERT_V_END% %UPSTREAM_LOCAL_IP_SAN% %DOWNSTREAM_LOCAL_CLOSE_REASON%\n",
    )
    .run();
}
