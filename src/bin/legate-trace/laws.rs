//! What a log of 1.1, and so legate's, has to agree on with itself: stages that Envoy 1.40 lacks, and whose number nothing on its
//! side tells. A break of the law becomes an event that no table knows.

use crate::lanes::{Event, LaneId, Trace};

/// Adds what breaks a law.
pub fn check(trace: &mut Trace) {
    let mut faults = Vec::new();
    for (id, events) in &trace.lanes {
        if matches!(id, LaneId::Downstream(_)) {
            faults.extend(reading(events).into_iter().map(|fault| (*id, fault)));
        }
    }
    for (id, fault) in faults {
        if let Some((_, events)) = trace.lanes.iter_mut().find(|(lane, _)| *lane == id) {
            let at = events.partition_point(|event| event.line <= fault.line);
            events.insert(at, fault);
        }
    }
}

/// Reading from a client stops when its request has been read and waits for the response, and resumes after that unless the
/// connection closes; nothing is read meanwhile. It resumes as often as it stops.
fn reading(events: &[Event]) -> Vec<Event> {
    const STOPS: (&str, Option<&str>) = (READ_DISABLE, Some("true"));
    const RESUMES: (&str, Option<&str>) = (READ_DISABLE, Some("false"));
    let (mut stops, mut waits) = (0, false);
    let mut faults = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let said = (event.stage.as_str(), event.detail("disable"));
        let next = || {
            let is_between = |event: &&Event| BETWEEN.contains(&event.stage.as_str());
            let next = events[at + 1..].iter().find(|event| !is_between(event));
            next.map(|event| (event.stage.as_str(), event.detail("disable")))
        };
        let broken = match said {
            STOPS => {
                stops += 1;
                continue;
            }
            RESUMES if stops > 0 => {
                stops -= 1;
                continue;
            }
            RESUMES => "reading resumes, which was not stopped",
            ("ConnectionImpl::onReadReady", _) if stops > 0 => {
                stops = 0;
                "it reads, though reading is stopped"
            }
            ("ActiveStream::maybeEndDecode" | "ActiveStream::onResetStream", _) => {
                waits = event.stage == "ActiveStream::maybeEndDecode";
                continue;
            }
            ("ConnectionImpl::dispatch done", _) if waits && stops == 0 && next() != Some(STOPS) => {
                "reading goes on, though a request waits"
            }
            _ if ends_stream(event) => {
                waits = false;
                let closes = next().is_some_and(|(stage, _)| stage == "ConnectionImpl::close");
                if stops == 0 || closes || next() == Some(RESUMES) {
                    continue;
                }
                "reading does not resume"
            }
            _ => continue,
        };
        faults.push(fault(broken, event));
    }
    faults
}

/// What may be done between the end of a stream and what follows from it.
const BETWEEN: [&str; 2] = ["ConnectionImpl::write", "UpstreamRequest::resetStream"];

const READ_DISABLE: &str = "ConnectionImpl::readDisable";

fn ends_stream(event: &Event) -> bool {
    let ends = event.detail("end") == Some("true");
    match event.stage.as_str() {
        "ActiveStream::encodeHeaders" | "ActiveStream::encodeData" => ends,
        "ActiveStream::encodeTrailers" => true,
        _ => false,
    }
}

fn fault(what: &str, event: &Event) -> Event {
    Event { stage: what.to_string(), known: false, details: Vec::new(), ..event.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `d:` and `u:` before a stage name its lane; a word `name=value` is a detail.
    fn faults(words: &[&str]) -> Vec<String> {
        let mut lanes = [(LaneId::Downstream(1), vec![]), (LaneId::Upstream(1), vec![])];
        for (line, word) in words.iter().enumerate() {
            let (lane, text) = word.split_once(':').unwrap();
            let (details, stage): (Vec<&str>, Vec<&str>) = text.split(' ').partition(|w| w.contains('='));
            let stage = stage.join(" ");
            let details = details.into_iter().filter_map(|word| word.split_once('='));
            let details = details.map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let event = Event { stage, known: true, stream: Some(1), conn: None, details, line };
            lanes[usize::from(lane == "u")].1.push(event);
        }
        let mut trace = Trace { lanes: lanes.into(), ..Trace::default() };
        check(&mut trace);
        let events = trace.lanes.iter().flat_map(|(_, events)| events);
        events.filter(|event| !event.known).map(|event| event.stage.clone()).collect()
    }

    const STOP: &str = "d:ConnectionImpl::readDisable disable=true";
    const RESUME: &str = "d:ConnectionImpl::readDisable disable=false";
    const READ: &str = "d:ConnectionImpl::onReadReady";

    #[test]
    fn nothing_is_read_while_reading_is_stopped() {
        let (request, parsed) = ("d:ActiveStream::maybeEndDecode", "d:ConnectionImpl::dispatch done");
        let (sent, close) = ("d:ActiveStream::encodeData end=true bytes=0", "d:ConnectionImpl::close");
        assert!(faults(&[READ, request, parsed, STOP, sent, RESUME, READ]).is_empty());
        assert!(faults(&[READ, request, sent, parsed, READ]).is_empty(), "it was answered at once");
        assert!(faults(&[READ, request, parsed, STOP, sent, close]).is_empty());
        assert_eq!(faults(&[READ, request, parsed, sent]), ["reading goes on, though a request waits"]);
        assert_eq!(faults(&[READ, request, parsed, STOP, sent]), ["reading does not resume"]);
        assert_eq!(faults(&[STOP, READ, READ]), ["it reads, though reading is stopped"]);
        assert_eq!(faults(&[STOP, STOP, RESUME, READ]), ["it reads, though reading is stopped"]);
        assert_eq!(faults(&[READ, RESUME]), ["reading resumes, which was not stopped"]);
    }
}
