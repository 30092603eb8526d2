//! Which connection of one log is which of the other, where the order tells nothing: with several workers.
//!
//! A client's connection is told by its requests, one to an upstream by the first request that it served.

use std::collections::HashMap;

use crate::lanes::{Event, LaneId, Trace};

/// The trace with its connections numbered as their like in `model`.
pub fn in_order_of(trace: &Trace, model: &Trace) -> Trace {
    let is_client = |id: &LaneId| matches!(id, LaneId::Downstream(_));
    let requests = |id: LaneId, trace: &Trace| requests(trace.lane(id));
    let mut renamed = renaming(trace, model, is_client, requests, LaneId::Downstream);
    let served = |id: LaneId, trace: &Trace| {
        let (client, stream) = first_served(trace, id)?;
        // The clients of both are to have the same names.
        let is_model = std::ptr::eq(trace, model);
        let client = if is_model { client } else { renamed.get(&client).copied().unwrap_or(client) };
        Some((client, stream))
    };
    let is_upstream = |id: &LaneId| matches!(id, LaneId::Upstream(_));
    let upstream = renaming(trace, model, is_upstream, served, LaneId::Upstream);
    renamed.extend(upstream);
    let mut out = trace.clone();
    for (id, events) in &mut out.lanes {
        *id = renamed.get(id).copied().unwrap_or(*id);
        for event in events {
            event.conn = event.conn.map(|conn| renamed.get(&conn).copied().unwrap_or(conn));
        }
    }
    out.lanes.sort_by_key(|(id, _)| *id);
    out
}

/// New names for lanes: the first of the model that has the same key and is free, or else one of the others in their order.
fn renaming<K: PartialEq>(
    trace: &Trace,
    model: &Trace,
    is_one: impl Fn(&LaneId) -> bool,
    key: impl Fn(LaneId, &Trace) -> K,
    name: impl Fn(usize) -> LaneId,
) -> HashMap<LaneId, LaneId> {
    let lanes_of = |trace: &Trace| -> Vec<LaneId> {
        trace.lanes.iter().map(|(id, _)| *id).filter(|id| is_one(id)).collect()
    };
    let mut free: Vec<(LaneId, K)> = lanes_of(model).into_iter().map(|id| (id, key(id, model))).collect();
    let most = free.len();
    let mut renamed = HashMap::new();
    let mut others = Vec::new();
    for id in lanes_of(trace) {
        let own = key(id, trace);
        match free.iter().position(|(_, key)| *key == own) {
            Some(at) => {
                renamed.insert(id, free.remove(at).0);
            }
            None => others.push(id),
        }
    }
    let mut left = free.into_iter().map(|(id, _)| id).chain((most + 1..).map(name));
    renamed.extend(others.into_iter().filter_map(|id| Some((id, left.next()?))));
    renamed
}

/// The requests of a connection: their lines and fields.
fn requests(events: &[Event]) -> Vec<String> {
    let heads = events.iter().filter(|event| event.stage == "ActiveStream::decodeHeaders");
    heads.map(|event| event.detail("headers").unwrap_or_default().to_string()).collect()
}

/// The client and the stream that a connection to an upstream served first.
fn first_served(trace: &Trace, upstream: LaneId) -> Option<(LaneId, Option<usize>)> {
    const GIVEN: [&str; 2] = ["ConnPoolImpl::attachRequestToClient", "ConnPoolImpl::newStream reuse"];
    trace.lanes.iter().filter(|(id, _)| matches!(id, LaneId::Pool(_))).find_map(|(_, events)| {
        let is_given = |event: &Event| event.conn == Some(upstream) && GIVEN.contains(&event.stage.as_str());
        let given = events.iter().position(is_given)?;
        let ready = events[given..].iter().find(|event| event.stage == "UpstreamRequest::onPoolReady")?;
        Some((ready.conn?, ready.stream))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stage: &str, conn: Option<LaneId>, path: &str) -> Event {
        let details = vec![("headers".to_string(), path.to_string())];
        Event { stage: stage.into(), known: true, stream: None, conn, details, line: 0 }
    }

    /// Clients that ask for these paths, each served by a connection of its own, with the client's path as its only event.
    fn trace(paths: &[&str]) -> Trace {
        let mut trace = Trace::default();
        let mut pool = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let (client, upstream) = (LaneId::Downstream(index + 1), LaneId::Upstream(index + 1));
            trace.lanes.push((client, vec![event("ActiveStream::decodeHeaders", None, path)]));
            trace.lanes.push((upstream, vec![event("x", None, path)]));
            pool.push(event("ConnPoolImpl::attachRequestToClient", Some(upstream), ""));
            pool.push(event("UpstreamRequest::onPoolReady", Some(client), ""));
        }
        trace.lanes.push((LaneId::Pool(1), pool));
        trace
    }

    #[test]
    fn connections_are_told_by_their_requests() {
        let paths_of = |trace: &Trace, lane: fn(usize) -> LaneId| -> Vec<String> {
            let path = |n| trace.lane(lane(n)).first().and_then(|e| e.detail("headers")).map(str::to_string);
            (1..=4).filter_map(path).collect()
        };
        let model = trace(&["/a", "/b", "/c"]);
        for (paths, want) in [
            (vec!["/c", "/a", "/b"], vec!["/a", "/b", "/c"]),
            (vec!["/x", "/b", "/a", "/y"], vec!["/a", "/b", "/x", "/y"]),
        ] {
            let sorted = in_order_of(&trace(&paths), &model);
            assert_eq!(paths_of(&sorted, LaneId::Downstream), want);
            assert_eq!(paths_of(&sorted, LaneId::Upstream), want);
        }
    }
}
