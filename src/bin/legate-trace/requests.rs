//! A request across lanes: what the client's connection, the pool and the connection to the upstream did for it, in one row.

use crate::compare::{Comparison, Lane, Pair};
use crate::lanes::LaneId;

/// A request and its steps.
pub struct Request<'a> {
    /// The client's connection, by number.
    pub connection: usize,
    /// Which of that connection's it is, from 1.
    pub number: usize,
    /// Its method and path.
    pub head: String,
    /// In the order of time.
    pub steps: Vec<(LaneId, &'a Pair)>,
}

/// All requests. A connection's belong to the first, until the next one's bytes are read; of the others only what happens
/// meanwhile, on the connection to the upstream that serves it.
pub fn requests(comparison: &Comparison) -> Vec<Request<'_>> {
    let mut all = Vec::new();
    for lane in &comparison.lanes {
        let LaneId::Downstream(connection) = lane.id else { continue };
        let starts = starts(lane);
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(lane.pairs.len());
            // To the first belongs how the connection began.
            let own = &lane.pairs[if index == 0 { 0 } else { *start }..end];
            let mut steps: Vec<(LaneId, &Pair)> = own.iter().map(|pair| (lane.id, pair)).collect();
            steps.extend(elsewhere(comparison, lane.id, &lane.pairs[*start..end]));
            steps.sort_by_key(|(_, pair)| pair.time);
            all.push(Request { connection, number: index + 1, head: head(own), steps });
        }
    }
    all
}

/// Where each request begins: with the edge that has brought it.
fn starts(lane: &Lane) -> Vec<usize> {
    let is = |pair: &Pair, stages: &[&str]| pair.stage().is_some_and(|stage| stages.contains(&stage));
    let mut starts: Vec<usize> = Vec::new();
    let mut free_from = 0;
    for (at, _) in
        lane.pairs.iter().enumerate().filter(|(_, pair)| is(pair, &["ConnectionManagerImpl::newStream"]))
    {
        let brings =
            ["ConnectionImpl::onFileEvent", "ConnectionImpl::onReadReady", "RawBufferSocket::doRead"];
        let edge = (free_from..at).rev().find(|at| is(&lane.pairs[*at], &brings[..1]));
        let read = (free_from..at).rev().find(|at| is(&lane.pairs[*at], &brings));
        starts.push(edge.or(read).unwrap_or(at));
        free_from = at + 1;
    }
    starts
}

/// What happens on the other lanes between the first and the last of a client's steps.
fn elsewhere<'a>(
    comparison: &'a Comparison,
    client: LaneId,
    own: &[Pair],
) -> impl Iterator<Item = (LaneId, &'a Pair)> {
    let (first, last) = (own.first().map(|pair| pair.time), own.last().map(|pair| pair.time));
    let meanwhile = move |pair: &&Pair| first <= Some(pair.time) && Some(pair.time) <= last;
    let pools = || comparison.lanes.iter().filter(|lane| matches!(lane.id, LaneId::Pool(_)));
    // A connection is attached to the request whose pool is ready next.
    let mut attached = Vec::new();
    for lane in pools() {
        let mut latest = None;
        for conn in lane.pairs.iter().filter(meanwhile).filter_map(|pair| pair.any()?.conn) {
            match conn {
                LaneId::Upstream(_) => latest = Some(conn),
                _ if conn == client => attached.extend(latest),
                _ => latest = None,
            }
        }
    }
    let is_of_it =
        move |conn: Option<LaneId>| conn.is_none_or(|conn| conn == client || attached.contains(&conn));
    comparison.lanes.iter().flat_map(move |lane| {
        let is_pool = matches!(lane.id, LaneId::Pool(_));
        let takes_part = is_pool || (matches!(lane.id, LaneId::Upstream(_)) && is_of_it(Some(lane.id)));
        let is_of_it = is_of_it.clone();
        // What both lanes have, the client's has.
        let once = move |pair: &&Pair| !is_pool || pair.stage() != Some("UpstreamRequest::onPoolReady");
        let of_it = move |pair: &&Pair| is_of_it(pair.any().and_then(|event| event.conn));
        let pairs =
            lane.pairs.iter().filter(move |_| takes_part).filter(meanwhile).filter(once).filter(of_it);
        pairs.map(|pair| (lane.id, pair))
    })
}

fn head(own: &[Pair]) -> String {
    let head = own.iter().find(|pair| pair.stage() == Some("ActiveStream::decodeHeaders"));
    let fields =
        head.and_then(|pair| pair.any()).and_then(|event| event.detail("headers")).unwrap_or_default();
    let field = |name: &str| fields.split(", ").find_map(|field| field.strip_prefix(name));
    match (field(":method: "), field(":path: ")) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => "no head".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Event;

    fn pair(stage: &str, conn: Option<LaneId>, time: usize) -> Pair {
        let headers = ("headers".to_string(), ":method: GET, :path: /x".to_string());
        let (stage, line) = (stage.to_string(), time);
        let event = Event { stage, known: true, stream: None, conn, details: vec![headers], line };
        Pair { time: (time, 0), ..Pair::new(Some(&event), Some(&event)) }
    }

    #[test]
    fn each_has_its_steps_of_all_lanes() {
        const NEW: &str = "ConnectionManagerImpl::newStream";
        const EDGE: &str = "ConnectionImpl::onFileEvent";
        const READY: &str = "UpstreamRequest::onPoolReady";
        let (client, upstream, other) = (LaneId::Downstream(1), LaneId::Upstream(1), LaneId::Upstream(2));
        let lane = |id, steps: &[(&str, Option<LaneId>, usize)]| Lane {
            id,
            pairs: steps.iter().map(|(stage, conn, time)| pair(stage, *conn, *time)).collect(),
        };
        let comparison = Comparison {
            lanes: vec![
                lane(
                    client,
                    &[
                        ("accept", None, 1),
                        (EDGE, None, 2),
                        (NEW, None, 3),
                        ("ActiveStream::decodeHeaders", None, 4),
                        (READY, None, 7),
                        ("sent", None, 10),
                        (EDGE, None, 20),
                        (NEW, None, 21),
                    ],
                ),
                lane(upstream, &[("connect", None, 5), ("closed", None, 30)]),
                lane(other, &[("connect", None, 9)]),
                lane(
                    LaneId::Pool(1),
                    &[
                        ("queue", None, 5),
                        ("attach", Some(upstream), 6),
                        (READY, Some(client), 7),
                        ("attach", Some(other), 8),
                    ],
                ),
            ],
            ..Comparison::default()
        };
        let requests = requests(&comparison);
        let steps = |index: usize| {
            let steps = &requests[index].steps;
            steps.iter().map(|(_, pair)| pair.stage().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].head, "GET /x");
        assert_eq!(
            steps(0),
            format!("accept {EDGE} {NEW} ActiveStream::decodeHeaders connect queue attach {READY} sent")
        );
        assert_eq!((steps(1), requests[1].number), (format!("{EDGE} {NEW}"), 2));
    }
}
