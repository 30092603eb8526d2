#!/usr/bin/env python3
"""Asks legate and Envoy for their verdicts on configurations that are a little wrong, or a little unusual.

    verdicts.py [--legate target/debug/legate] [--envoy BINARY] [--count N] [--seed S] [--show]

One configuration has about everything of routes that both know. Each of N others differs from it in one place: a value is
gone, of another kind, empty, too large, twice there, or another text. Both programs validate each of them. What legate
refuses because it is "not supported yet" counts as no verdict. Exits with 1 where they disagree.
"""

import argparse
import copy
import glob
import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


def regex(pattern, by=None):
    matcher = {"regex": pattern}
    return matcher if by is None else {"pattern": matcher, "substitution": by}


def header(key, value, **more):
    return {"header": {"key": key, "value": value}, **more}


def extension_of(type_name, **config):
    return {"name": "x", "typed_config": {"@type": "type.googleapis.com/" + type_name, **config}}


def extension(kind, **config):
    return extension_of("envoy.extensions." + kind, **config)


def mutation(key, value):
    return {"append": {"header": {"key": key, "value": value}, "append_action": "ADD_IF_ABSENT"}}


def rules():
    return {
        "request_headers_to_add": [
            header("x-a", "%REQ(:path)% %START_TIME%"),
            header("x-b", "b", append_action="OVERWRITE_IF_EXISTS_OR_ADD"),
            header("x-c", "", keep_empty_value=True),
        ],
        "request_headers_to_remove": ["x-gone"],
        "response_headers_to_add": [header("x-r", "%RESPONSE_CODE%", append_action="ADD_IF_ABSENT")],
        "response_headers_to_remove": ["x-secret"],
    }


def matcher():
    """A tree that leads to routes: a list, maps, and trees within them."""
    asked = lambda name: extension_of("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)
    route = lambda prefix: {"match": {"prefix": prefix}, "route": {"cluster": "a"}}
    to = lambda *prefixes: {"action": extension_of("envoy.config.route.v3.RouteList", routes=[route(p) for p in prefixes])}
    one = {"action": extension_of("envoy.config.route.v3.Route", **route("/one"))}
    single = lambda name, **value: {"single_predicate": {"input": asked(name), "value_match": value}}
    whole = {"safe_regex": {"google_re2": {}, "regex": "a+"}}
    return {
        "matcher_list": {"matchers": [
            {"predicate": {"or_matcher": {"predicate": [single("a", exact="b"), single("b", prefix="c", ignore_case=True)]}}, "on_match": one},
            {"predicate": {"and_matcher": {"predicate": [{"not_matcher": single("a", suffix="b")}, single("b", **whole)]}},
             "on_match": {"matcher": {"matcher_tree": {"input": asked(":path"), "prefix_match_map": {"map": {"/": to("/a", "/b"), "/x": one}}}}}},
        ]},
        "on_no_match": {"matcher": {"matcher_tree": {"input": asked("c"), "exact_match_map": {"map": {"d": one}}}}},
    }


def allowed(name):
    return {"action": extension_of("envoy.config.rbac.v3.Action", name=name, action="ALLOW")}


def access():
    """A tree that says what may be done."""
    asked = lambda kind, **config: extension_of("envoy.extensions.matching.common_inputs.network.v3." + kind, **config)
    by_header = extension_of("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name="a")
    single = lambda asked, **value: {"single_predicate": {"input": asked, "value_match": value}}
    return {"matcher_list": {"matchers": [
        {"predicate": single(asked("SourceIPInput"), prefix="10."), "on_match": allowed("net")},
        {"predicate": single(asked("FilterStateInput", key="k"), exact="v"), "on_match": {"matcher": {"matcher_tree": {
            "input": by_header, "exact_match_map": {"map": {"x": allowed("tree")}}}}}}]}}


def filters():
    """Filters before the router."""
    parameter = lambda key, value, action: {"append": {"record": {"key": key, "value": value}, "action": action}}
    limit = {"max_tokens": 5, "tokens_per_fill": 1, "fill_interval": "1s"}
    mutations = {"request_mutations": [mutation("x-a", "%PROTOCOL%")], "request_trailers_mutations": [{"remove": "t"}],
                 "response_trailers_mutations": [mutation("x-t", "%RESPONSE_CODE%")],
                 "query_parameter_mutations": [parameter("a", "%REQ(x)%", "ADD_IF_ABSENT"), {"remove": "b"}]}
    gzip = extension("compression.gzip.compressor.v3.Gzip", memory_level=5)
    return [
        extension("filters.http.header_mutation.v3.HeaderMutation", mutations=mutations),
        extension("filters.http.compressor.v3.Compressor", compressor_library=gzip, response_direction_config={
            "status_header_enabled": True, "uncompressible_response_codes": [404], "weaken_etag_on_compress": True,
            "common_config": {"min_content_length": 50, "content_type": ["a/b"], "enabled": {"default_value": True, "runtime_key": "k"}}}),
        extension("filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="s", token_bucket=limit, max_dynamic_descriptors=3,
                  rate_limits=[{"actions": [{"generic_key": {"descriptor_value": "g"}}, {"remote_address_match": {
                      "descriptor_value": "v", "address_matcher": {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}],
                                "hits_addend": {"format": "%REQ(x)%"}, "x_ratelimit_option": "OFF"},
                               {"actions": [{"remote_address": {}}], "hits_addend": {"number": 3}}],
                  descriptors=[{"entries": [{"key": "k", "value": ""}], "token_bucket": limit},
                               {"entries": [{"key": "k", "value": "v"}], "token_bucket": limit, "shadow_mode": True}]),
        extension("filters.http.ext_authz.v3.ExtAuthz", http_service={
            "server_uri": {"uri": "a", "cluster": "a", "timeout": "1s"}, "path_prefix": "/p",
            "retry_policy": {"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "1s", "max_interval": "2s"}}},
            clear_route_cache=True, clear_route_cache_headers=["x"], shadow_mode=True, filter_metadata={"a": {"b": 1}},
            decoder_header_mutation_rules={"disallow_all": True, "allow_expression": regex("x-.*"), "disallow_is_error": True}),
        extension("filters.http.rbac.v3.RBAC", matcher=access(), rules_stat_prefix="p", shadow_matcher={"on_no_match": allowed("all")}),
    ]


def base():
    string = lambda kind, text: {"string_match": {kind: text}}
    routes = [
        {"name": "one", "match": {"prefix": "/a", "case_sensitive": False,
                                  "headers": [{"name": "x-h", **string("exact", "v"), "invert_match": True},
                                              {"name": "x-r", "range_match": {"start": "1", "end": "5"}},
                                              {"name": "x-p", "present_match": True},
                                              {"name": "x-s", "string_match": {"safe_regex": regex("a+")}}],
                                  "query_parameters": [{"name": "q", **string("prefix", "x")}, {"name": "p", "present_match": False}],
                                  "runtime_fraction": {"default_value": {"numerator": 50, "denominator": "HUNDRED"}, "runtime_key": "k"}},
         "route": {"cluster": "a", "timeout": "3s", "idle_timeout": "10s", "prefix_rewrite": "/b", "priority": "HIGH",
                   "host_rewrite_literal": "h", "append_x_forwarded_host": True,
                   "cluster_not_found_response_code": "NOT_FOUND", "upgrade_configs": [{"upgrade_type": "websocket", "enabled": True}],
                   "request_mirror_policies": [{"cluster": "b", "runtime_fraction": {"default_value": {"numerator": 5}}}]},
         "decorator": {"operation": "o"}, "stat_prefix": "counted", "metadata": {"filter_metadata": {"f": {"k": ["v", 1]}}}, **rules()},
        {"match": {"path_match_policy": extension("path.match.uri_template.v3.UriTemplateMatchConfig", path_template="/t/{id}/{rest=**}"),
                   "tls_context": {"presented": False}},
         "route": {"cluster": "a", "path_rewrite_policy": extension("path.rewrite.uri_template.v3.UriTemplateRewriteConfig", path_template_rewrite="/{rest}/{id}"),
                   "max_stream_duration": {"max_stream_duration": "9s", "grpc_timeout_header_max": "5s", "grpc_timeout_header_offset": "1s"},
                   "hash_policy": [{"header": {"header_name": "x-h", "regex_rewrite": regex("a", "b")}, "terminal": True},
                                   {"cookie": {"name": "c", "ttl": "5s", "path": "/", "attributes": [{"name": "Secure", "value": "x"}]}},
                                   {"connection_properties": {"source_ip": True}}, {"query_parameter": {"name": "q"}},
                                   {"filter_state": {"key": "k"}}],
                   "rate_limits": [{"stage": 1, "disable_key": "d", "actions": [
                       {"request_headers": {"header_name": "h", "descriptor_key": "k", "skip_if_absent": True}}, {"remote_address": {}},
                       {"generic_key": {"descriptor_value": "v", "descriptor_key": "k"}}, {"source_cluster": {}}, {"destination_cluster": {}},
                       {"header_value_match": {"descriptor_value": "v", "headers": [{"name": "h", "present_match": True}], "expect_match": False}},
                       {"masked_remote_address": {"v4_prefix_mask_len": 24, "v6_prefix_mask_len": 64}},
                       {"query_parameter_value_match": {"descriptor_value": "v", "query_parameters": [{"name": "q", "present_match": True}]}}]}],
                   "include_vh_rate_limits": True, "flush_timeout": "1s", "metadata_match": {"filter_metadata": {"envoy.lb": {"a": "b"}}},
                   "cors": {"allow_origin_string_match": [{"exact": "a"}], "allow_methods": "GET", "max_age": "1", "allow_credentials": True,
                            "filter_enabled": {"default_value": {"numerator": 100}}},
                   "request_mirror_policies": [{"cluster": "b", "request_headers_mutations": [mutation("x-m", "%REQ(:path)%"), {"remove": "x-g"}],
                                                "host_rewrite_literal": "m"}]}},
        {"match": {"prefix": "/grpc"}, "route": {"cluster": "a", "max_grpc_timeout": "5s", "grpc_timeout_offset": "1s"}},
        {"match": {"prefix": "/hashed"}, "route": {"hash_policy": [{"header": {"header_name": "x"}}], "weighted_clusters": {
            "clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}], "use_hash_policy": True}}},
        {"match": {"path": "/p"}, "redirect": {"host_redirect": "h", "port_redirect": 8443, "path_redirect": "/n",
                                               "response_code": "FOUND", "strip_query": True, "https_redirect": True}},
        {"match": {"safe_regex": regex("/r/.*")}, "direct_response": {"status": 200, "body": {"inline_string": "x"},
            "body_format": {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "text/x"}}},
        {"match": {"path_separated_prefix": "/s"}, "route": {"weighted_clusters": {
            "clusters": [{"name": "a", "weight": 1, **rules()}, {"name": "b", "weight": 2, "host_rewrite_literal": "w"}],
            "header_name": "x-random"}, "regex_rewrite": regex("^/s(.*)$", "\\1")}},
        {"match": {"connect_matcher": {}}, "route": {"cluster": "a"}},
        {"match": {"prefix": "/", "grpc": {}}, "route": {"cluster_header": "x-cluster", "host_rewrite_path_regex": regex("^/(.*)$", "\\1")}},
        {"match": {"prefix": "/formats"}, "route": {"cluster": "a", "path_rewrite": "/p%REQ(x)%", "host_rewrite": "%REQ(y)%.z"}},
        {"match": {"prefix": "/to-format"}, "redirect": {"path_rewrite": "/p%REQ(x)%"}},
        {"match": {"prefix": "/"}, "redirect": {"regex_rewrite": regex("a", "b"), "scheme_redirect": "https"}},
    ]
    hosts = [
        {"name": "v", "domains": ["a.com", "*.b.com", "c.*"], "routes": routes, "require_tls": "NONE",
         "include_request_attempt_count": True, "include_attempt_count_in_response": True,
         "virtual_clusters": [{"name": "vc", "headers": [{"name": ":method", **string("exact", "GET")}]}],
         "request_mirror_policies": [{"cluster": "b"}], "rate_limits": [{"actions": [{"remote_address": {}}]}],
         "metadata": {"filter_metadata": {"h": {}}}, **rules()},
        {"name": "w", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b", "auto_host_rewrite": True}}]},
        {"name": "m", "domains": ["m.com"], "matcher": matcher()},
    ]
    manager = {
        "@type": HCM, "stat_prefix": "s", "codec_type": "AUTO",
        "http_filters": [*filters(), {"name": "router", "typed_config": {"@type": ROUTER}}],
        "route_config": {"name": "r", "virtual_hosts": hosts, "most_specific_header_mutations_wins": True,
                         "ignore_port_in_host_matching": True, "max_direct_response_body_size_bytes": 100,
                         "internal_only_headers": ["x-int"], "ignore_path_parameters_in_path_matching": True,
                         "request_mirror_policies": [{"cluster": "a", "disable_shadow_host_suffix_append": True}], **rules()},
        "upgrade_configs": [{"upgrade_type": "websocket", "enabled": False}],
        "access_log": [{"name": "f", "typed_config": {"@type": FILE_LOG, "path": "/dev/null", "log_format": {
            "text_format_source": {"inline_string": "%PROTOCOL% %RESP(x)% %PATH(NQ:ORIG)% %QUERY_PARAM(a)% %QUERY_PARAMS(DECODED)% %GRPC_STATUS(NUMBER)% "
                "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% %METADATA(ROUTE:f:k)% %ENVIRONMENT(HOME)% %EMIT_TIME(%Y)%\n"}}}}],
        "local_reply_config": {"mappers": [{"filter": {"status_code_filter": {"comparison": {
            "op": "GE", "value": {"default_value": 400, "runtime_key": "x"}}}}, "status_code": 444,
            "body": {"inline_string": "b"}, "headers_to_add": [header("x-l", "l")]}],
            "body_format": {"json_format": {"b": "%LOCAL_REPLY_BODY%"}}},
        "strip_matching_host_port": True, "strip_trailing_host_dot": True, "normalize_path": True, "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD", "xff_num_trusted_hops": 1, "via": "v",
        "scheme_header_transformation": {"scheme_to_overwrite": "https"}, "max_request_headers_kb": 20,
        "stream_idle_timeout": "5s", "request_timeout": "1s", "drain_timeout": "1s", "delayed_close_timeout": "1s",
        "server_header_transformation": "APPEND_IF_ABSENT", "server_name": "n",
        "common_http_protocol_options": {"idle_timeout": "5s", "max_headers_count": 50, "max_stream_duration": "9s"},
        "http_protocol_options": {"header_key_format": {"stateful_formatter": extension(
            "http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig", forward_reason_phrase=True,
            formatter_type_on_envoy_headers="PROPER_CASE")}, "accept_http_10": True},
        "early_header_mutation_extensions": [extension("http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=[
            mutation("x-early", "%PROTOCOL%"), {"remove": "x-g"}, {"remove_on_match": {"key_matcher": {"prefix": "x-many"}}}])],
        "request_id_extension": {"typed_config": extension("request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)["typed_config"]},
        "proxy_status_config": {"remove_details": True, "literal_proxy_name": "p", "set_recommended_response_code": True},
        "access_log_options": {"access_log_flush_interval": "1s", "flush_access_log_on_new_request": True},
        "http1_safe_max_connection_duration": True, "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": True, "uri": True}, "append_x_forwarded_port": True,
        "internal_address_config": {"unix_sockets": True, "cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
    }
    cluster = lambda name: {"name": name, "connect_timeout": "1s", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}}}}]}]}}
    return {"static_resources": {
        "listeners": [{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [
            {"filters": [{"name": "hcm", "typed_config": manager}]}]}],
        "clusters": [cluster("a"), cluster("b")]}}


def places(value, path=()):
    """All places in a document, but for the types of extensions and what the listener is made of."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "@type":
                yield path + (key,)
                yield from places(inner, path + (key,))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield path + (i,)
            yield from places(inner, path + (i,))


TEXTS = ["", "x", "*", "/", "(", "a b", "%", "%REQ(%", "%NO_SUCH%", ":path", "host", "\n", "é", "-1", "0", "15s", "true",
         "x" * 300, "/a?b", "/a#b", "1.2.3.4", "NONE", "HIGH", "\\9", "a.com", "A.com", "*.com*"]
OTHERS = [None, 0, 1, -1, 1.5, 65536, 4294967296, True, False, [], {}, ["x"], {"x": 1}, "600", 99, 200, 0.001]


def mutate(rng, document):
    """Changes the document in one place of its connection manager; says what it did."""
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    path = rng.choice(list(places(manager)))
    parent = manager
    for step in path[:-1]:
        parent = parent[step]
    old, last = parent[path[-1]], path[-1]
    kind = rng.randrange(8)
    if kind == 0:
        del parent[last]
        what = "gone"
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(["no_such_field", "cluster", "path", "prefix", "name", "regex", "status"])] = rng.choice(["x", 3])
        what = "a field more"
    elif kind == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(old))
        what = "twice"
    elif kind == 3 and isinstance(old, (dict, list)):
        parent[last] = type(old)()
        what = "empty"
    elif kind <= 5:
        parent[last] = rng.choice(TEXTS)
        what = repr(parent[last])[:40]
    else:
        parent[last] = rng.choice(OTHERS)
        what = repr(parent[last])[:40]
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)[1:] + ": " + what


def verdict(binary, path, more):
    """Whether it is accepted, and what is said of it."""
    command = [os.path.abspath(binary), "--mode", "validate", "-c", path, *more]
    # Some of them name files to be written.
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=os.path.dirname(path))
    return run.returncode == 0, run.stdout + run.stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--legate", default=os.path.join(ROOT, "target/debug/legate"))
    parser.add_argument("--envoy", default=os.environ.get("ENVOY_BIN"))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print what both say of each disagreement")
    options = parser.parse_args()
    envoy = options.envoy or next(iter(glob.glob(os.path.join(ROOT, ".venv/lib/python3*/site-packages/envoy/_bin/envoy"))), None)
    if envoy is None:
        sys.exit("no Envoy: run tests/setup.sh, or say --envoy")
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        def ask(number):
            document = base()
            what = "as it is" if number == 0 else mutate(random.Random(rngs[number]), document)
            path = os.path.join(folder, f"{number}.json")
            with open(path, "w") as out:
                json.dump(document, out)
            theirs = verdict(envoy, path, ["--base-id", str(900 + number)])
            ours = verdict(options.legate, path, [])
            return what, ours, theirs
        rngs = [rng.random() for _ in range(options.count + 1)]
        with ThreadPoolExecutor(2) as pool:
            asked = list(pool.map(ask, range(options.count + 1)))
    same = unsupported = 0
    disagreements = []
    for what, (ours, our_words), (theirs, their_words) in asked:
        if ours == theirs:
            same += 1
        elif not ours and ("supported" in our_words):
            unsupported += 1
        else:
            disagreements.append((what, ours, our_words, their_words))
    accepted = sum(1 for _, _, (theirs, _) in asked if theirs)
    print(f"{len(asked)} configurations, {accepted} of them right: {same} verdicts are the same, "
          f"{unsupported} are not supported yet, {len(disagreements)} differ")
    for what, ours, our_words, their_words in disagreements:
        print(("legate accepts: " if ours else "legate refuses: ") + what)
        if options.show:
            said = their_words if ours else our_words
            lines = [line for line in said.splitlines() if "error" in line.lower() or "validate" in line.lower()]
            print("    " + "\n    ".join(line[:300] for line in lines[:3]))
    sys.exit(1 if disagreements else 0)


if __name__ == "__main__":
    main()
