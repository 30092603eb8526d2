//! The comparison as one page that loads nothing from elsewhere.

use std::fmt::Write;

use crate::compare::{Comparison, Lane, Pair, Verdict};
use crate::differences::Difference;
use crate::report;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--same:transparent;--known:#e8a80030;--bad:#e0304040}\
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem;max-width:1400px}\
table{border-collapse:collapse;width:100%;margin:.4rem 0 1.2rem}\
th,td{text-align:left;padding:.15rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}\
td{font-family:ui-monospace,monospace;font-size:12.5px}\
td.n{text-align:right;width:3.5rem;white-space:nowrap;font-family:inherit}\
tr.known td{background:var(--known)}tr.bad td,p.bad{background:var(--bad)}\
h3{margin:.8rem 0 .2rem}summary{cursor:pointer;font-weight:600}\
.reason{font-family:inherit;color:#888}";

/// The page.
pub fn page(comparisons: &[Comparison], differences: &[Difference]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Envoy and legate, stage by stage</title>\
         <style>{STYLE}</style>\n<h1>Envoy and legate, stage by stage</h1>\n<p>Equal stages stand side by side; \
         <span style=\"background:var(--known)\">documented differences</span> have a number and a reason, \
         <span style=\"background:var(--bad)\">undocumented ones</span> an exclamation mark.</p>\n"
    );
    write_summary(&mut out, comparisons);
    for comparison in comparisons {
        let open = if comparisons.len() == 1 || comparison.differs() { " open" } else { "" };
        let name = if comparison.scenario.is_empty() { "the logs" } else { &comparison.scenario };
        let _ = writeln!(out, "<details{open} id=\"{name}\"><summary>{}</summary>", escape(name));
        for line in comparison.stuck_lines() {
            let _ = writeln!(out, "<p class=bad>{}", escape(&line));
        }
        for lane in &comparison.lanes {
            write_lane(&mut out, lane, differences);
        }
        out.push_str("</details>\n");
    }
    out.push_str("</html>\n");
    out
}

fn write_summary(out: &mut String, comparisons: &[Comparison]) {
    out.push_str(
        "<table><tr><th>scenario<th>compared<th>equal<th>documented differences<th>undocumented</tr>\n",
    );
    for comparison in comparisons {
        let counts = comparison.counts();
        let class = if comparison.differs() { " class=bad" } else { "" };
        let name = escape(&comparison.scenario);
        let _ = writeln!(
            out,
            "<tr{class}><td><a href=\"#{name}\">{name}</a><td>{}<td>{}<td>{}<td>{}</tr>",
            counts.compared, counts.equal, counts.documented, counts.undocumented
        );
    }
    out.push_str("</table>\n");
}

fn write_lane(out: &mut String, lane: &Lane, differences: &[Difference]) {
    let _ = writeln!(out, "<h3>{}</h3>\n<table><tr><th><th>Envoy<th>legate</tr>", lane.id);
    for pair in &lane.pairs {
        write_pair(out, pair, differences);
    }
    out.push_str("</table>\n");
}

fn write_pair(out: &mut String, pair: &Pair, differences: &[Difference]) {
    let (envoy, legate) = report::columns(pair);
    let (mut envoy, mut legate) = (escape(&envoy), escape(&legate));
    let (class, mark) = match pair.verdict {
        Verdict::Equal => ("", String::new()),
        Verdict::Undocumented => (" class=bad", "!".to_string()),
        Verdict::Documented(index) => {
            let Difference { since, reason, .. } = &differences[index];
            let text = format!("<span class=reason>{}: {}</span>", escape(since), escape(reason));
            let empty = if pair.envoy.is_none() { &mut envoy } else { &mut legate };
            match empty.is_empty() {
                true => *empty = text,
                false => {
                    let _ = write!(empty, " {text}");
                }
            }
            (" class=known", format!("({})", index + 1))
        }
    };
    let _ = writeln!(out, "<tr{class}><td class=n>{mark}<td>{envoy}<td>{legate}</tr>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::How;
    use crate::lanes::{Event, LaneId};

    fn event(stage: &str) -> Option<Event> {
        Some(Event {
            stage: stage.into(),
            known: true,
            stream: None,
            conn: None,
            details: Vec::new(),
            line: 1,
        })
    }

    #[test]
    fn differences_are_marked_and_texts_escaped() {
        let pairs = vec![
            Pair { envoy: event("a<b"), legate: event("a<b"), verdict: Verdict::Equal },
            Pair { envoy: event("c"), legate: None, verdict: Verdict::Documented(0) },
            Pair { envoy: None, legate: event("d"), verdict: Verdict::Undocumented },
        ];
        let comparison = Comparison {
            scenario: "s".into(),
            lanes: vec![Lane { id: LaneId::Main, pairs }],
            downstream_by_worker: [vec![], vec![]],
            stuck: [None, Some("no <answer>".into())],
        };
        let known = Difference {
            stage: "c".into(),
            how: How::EnvoyOnly,
            sometimes: false,
            lanes: vec![],
            scenarios: vec![],
            since: "1.40".into(),
            reason: "it is & was".into(),
        };
        let page = page(&[comparison], &[known]);
        assert!(page.contains("<tr><td class=n><td>a&lt;b<td>a&lt;b</tr>"), "{page}");
        assert!(page.contains(
            "<tr class=known><td class=n>(1)<td>c<td><span class=reason>1.40: it is &amp; was</span></tr>"
        ));
        assert!(page.contains("<tr class=bad><td class=n>!<td><td>d</tr>"));
        assert!(page.contains("<p class=bad>legate gets stuck: no &lt;answer&gt;"));
        assert!(page.contains("<td>3<td>1<td>1<td>1</tr>"));
    }
}
