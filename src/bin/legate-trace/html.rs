//! The comparison as one page that loads nothing from elsewhere.

use std::fmt::Write;
use std::sync::Arc;

use crate::compare::{Comparison, Counts, Pair, Verdict};
use crate::differences::Difference;
use crate::lanes::{Event, LaneId};
use crate::report::{self, Excerpt};
use crate::requests::{self, Request};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--same:transparent;--known:#e8a80030;--bad:#e0304040}\
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem;max-width:1400px}\
table{border-collapse:collapse;width:100%;margin:.4rem 0 1.2rem}\
th,td{text-align:left;padding:.15rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}\
td{font-family:ui-monospace,monospace;font-size:12.5px}\
td.n{text-align:right;width:3.5rem;white-space:nowrap;font-family:inherit}\
tr.known td{background:var(--known)}tr.bad td,p.bad{background:var(--bad)}\
tr.first td{outline:2px solid #e03040}\
h3{margin:.8rem 0 .2rem}summary{cursor:pointer;font-weight:600}\
.reason{font-family:inherit;color:#888}";

/// A link leads into a part that is closed: opens it.
const SCRIPT: &str = "\
function show(){let e=document.getElementById(decodeURIComponent(location.hash.slice(1)));if(!e)return;\
for(let d=e;d;d=d.parentElement)if(d.tagName=='DETAILS')d.open=true;e.scrollIntoView()}\
addEventListener('hashchange',show);addEventListener('DOMContentLoaded',show)";

/// What the page is about.
pub struct Page<'a> {
    /// The comparisons.
    pub comparisons: &'a [Comparison],
    /// What may differ.
    pub differences: &'a [Difference],
    /// Which part of them is on it.
    pub excerpt: &'a Excerpt,
    /// Lines that stand below the summary.
    pub notes: &'a [String],
}

/// The page.
pub fn page(page: &Page) -> String {
    let mut out =
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Envoy and legate, stage by \
         stage</title>"
            .to_string();
    let _ = writeln!(
        out,
        "<style>{STYLE}</style><script>{SCRIPT}</script>\n<h1>Envoy and legate, stage by stage</h1>\n<p>Equal stages stand side by side; \
         <span style=\"background:var(--known)\">documented differences</span> have a number and a reason, \
         <span style=\"background:var(--bad)\">undocumented ones</span> an exclamation mark. Pointing at a stage \
         tells its line in the log. Below the lanes of a scenario are its requests, each with its steps on all lanes."
    );
    write_first(&mut out, page);
    write_summary(&mut out, page.comparisons);
    for line in page.notes {
        let _ = writeln!(out, "<p>{}", text(line));
    }
    for comparison in page.comparisons {
        write_comparison(&mut out, comparison, page);
    }
    out.push_str("</html>\n");
    out
}

fn name(comparison: &Comparison) -> &str {
    if comparison.scenario.is_empty() { "own logs" } else { &comparison.scenario }
}

fn id(comparison: &Comparison) -> String {
    name(comparison).replace(' ', "-")
}

/// Links to the first difference of each scenario that has one.
fn write_first(out: &mut String, page: &Page) {
    for comparison in page.comparisons {
        if report::first_difference(&page.excerpt.of(comparison)).is_some() {
            let (id, name) = (id(comparison), escape(name(comparison)));
            let _ = writeln!(out, "<p class=bad><a href=\"#first-{id}\">{name}: the first difference</a>");
        }
    }
}

fn write_summary(out: &mut String, comparisons: &[Comparison]) {
    out.push_str(
        "<table><tr><th>scenario<th>compared<th>equal<th>documented differences<th>undocumented<th>lines that are no \
         step (Envoy + legate)</tr>\n",
    );
    let mut total = Counts::default();
    for comparison in comparisons {
        let counts = comparison.counts();
        let class = if comparison.differs() { " class=bad" } else { "" };
        let link = format!("<a href=\"#{}\">{}</a>", id(comparison), escape(name(comparison)));
        write_counts(out, class, &link, counts);
        total.add(counts);
    }
    if comparisons.len() > 1 {
        write_counts(out, "", "all", total);
    }
    out.push_str("</table>\n");
}

fn write_counts(out: &mut String, class: &str, name: &str, counts: Counts) {
    let Counts { compared, equal, documented, undocumented, ignored: [envoy, legate] } = counts;
    let _ = writeln!(
        out,
        "<tr{class}><td>{name}<td>{compared}<td>{equal}<td>{documented}<td>{undocumented}<td>{envoy} + {legate}</tr>"
    );
}

fn write_comparison(out: &mut String, comparison: &Comparison, page: &Page) {
    let open = if page.comparisons.len() == 1 || comparison.differs() { " open" } else { "" };
    let id = id(comparison);
    let _ = writeln!(out, "<details{open} id=\"{id}\"><summary>{}</summary>", escape(name(comparison)));
    for line in comparison.stuck_lines() {
        let _ = writeln!(out, "<p class=bad>{}", text(&line));
    }
    let stale = report::stale_lines("", &comparison.stale, page.differences);
    for line in comparison.notes.iter().chain(&stale) {
        let _ = writeln!(out, "<p>{}", text(line));
    }
    let shown = page.excerpt.of(comparison);
    let first = report::first_difference(&shown);
    for (lane, pairs) in shown {
        let _ = writeln!(out, "<h3>{lane}</h3>\n<table><tr><th><th>Envoy<th>legate</tr>");
        for pair in pairs {
            let first = first.filter(|first| std::ptr::eq(*first, pair)).map(|_| id.as_str());
            write_pair(out, pair, None, page.differences, first, &comparison.logs);
        }
        out.push_str("</table>\n");
    }
    if page.excerpt.is_of_all_lanes() {
        write_requests(out, comparison, page.differences);
    }
    out.push_str("</details>\n");
}

/// Each request with its steps on all lanes, closed.
fn write_requests(out: &mut String, comparison: &Comparison, differences: &[Difference]) {
    for Request { connection, number, head, steps } in requests::requests(comparison) {
        let (id, head) = (id(comparison), escape(&head));
        let _ = writeln!(
            out,
            "<details id=\"{id}-D{connection}-{number}\"><summary>request {number} of downstream connection {connection}: \
             {head}</summary>\n<table><tr><th><th>lane<th>Envoy<th>legate</tr>"
        );
        for (lane, pair) in steps {
            write_pair(out, pair, Some(lane), differences, None, &comparison.logs);
        }
        out.push_str("</table></details>\n");
    }
}

fn write_pair(
    out: &mut String,
    pair: &Pair,
    lane: Option<LaneId>,
    differences: &[Difference],
    first: Option<&str>,
    logs: &[Arc<[String]>; 2],
) {
    let (envoy, legate) = report::columns(pair);
    let (mut envoy, mut legate) = (escape(&envoy), escape(&legate));
    let (class, mark) = match (pair.verdict, first) {
        (Verdict::Equal, _) => (String::new(), String::new()),
        (Verdict::Documented(index), _) => {
            let Difference { since, reason, .. } = &differences[index];
            let reason = format!("<span class=reason>{}: {}</span>", since, text(reason));
            let empty = if pair.envoy.is_none() { &mut envoy } else { &mut legate };
            match empty.is_empty() {
                true => *empty = reason,
                false => {
                    let _ = write!(empty, " {reason}");
                }
            }
            (" class=known".to_string(), format!("({})", index + 1))
        }
        (_, Some(id)) => (format!(" class=\"bad first\" id=\"first-{id}\""), "&gt;&gt;&gt;&gt;".to_string()),
        (_, None) => (" class=bad".to_string(), "!".to_string()),
    };
    // The logs themselves may be gone when somebody reads this.
    let line = |event: &Option<Event>, log: &[String]| {
        let Some(event) = event else { return String::new() };
        let said = event.line.checked_sub(1).and_then(|at| log.get(at)).map_or("", String::as_str);
        format!(" title=\"line {}: {}\"", event.line, escape(said))
    };
    let (of_envoy, of_legate) = (line(&pair.envoy, &logs[0]), line(&pair.legate, &logs[1]));
    let lane = lane.map_or(String::new(), |lane| format!("<td>{lane}"));
    let _ =
        writeln!(out, "<tr{class}><td class=n>{mark}{lane}<td{of_envoy}>{envoy}<td{of_legate}>{legate}</tr>");
}

/// Prose, with what is in backticks as code.
fn text(prose: &str) -> String {
    let mut out = String::new();
    for (index, part) in escape(prose).split('`').enumerate() {
        match index % 2 {
            0 => out.push_str(part),
            _ => {
                let _ = write!(out, "<code>{part}</code>");
            }
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Lane;
    use crate::differences::How;
    use crate::differences::tests::difference;

    fn event(stage: &str, line: usize) -> Option<Event> {
        let details = Vec::new();
        Some(Event { stage: stage.into(), known: true, stream: None, conn: None, details, line })
    }

    fn html(excerpt: &Excerpt) -> String {
        let pair = |envoy, legate, verdict, time| Pair { envoy, legate, verdict, time };
        let pairs = vec![
            pair(event("a<b", 1), event("a<b", 2), Verdict::Equal, (2, 0)),
            pair(event("c", 3), None, Verdict::Documented(0), (6, 0)),
            pair(None, event("d", 4), Verdict::Undocumented, (7, 0)),
            pair(event("e", 5), None, Verdict::Missing(0), (10, 0)),
        ];
        let comparison = Comparison {
            lanes: vec![Lane { id: LaneId::Main, pairs }],
            stuck: [None, Some("no <answer>".into())],
            notes: vec!["a note".into()],
            ignored: [8, 9],
            logs: [["an \"a\"", "two", "it says c"].map(str::to_string).into(), ["one".to_string()].into()],
            ..Comparison::default()
        };
        let known = Difference { reason: "it `is` & was".into(), ..difference("c", How::EnvoyOnly) };
        let notes = ["a line".to_string()];
        page(&Page { comparisons: &[comparison], differences: &[known], excerpt, notes: &notes })
    }

    #[test]
    fn differences_are_marked_and_texts_escaped() {
        let page = html(&Excerpt::default());
        let has = |part: &str| assert!(page.contains(part), "{part} is not in\n{page}");
        has(
            "<tr><td class=n><td title=\"line 1: an &quot;a&quot;\">a&lt;b<td title=\"line 2: \">a&lt;b</tr>",
        );
        has("<tr class=known><td class=n>(1)<td title=\"line 3: it says c\">c");
        has("<td><span class=reason>1.40: it <code>is</code> &amp; was</span></tr>");
        has(
            "<tr class=\"bad first\" id=\"first-own-logs\"><td class=n>&gt;&gt;&gt;&gt;<td><td title=\"line 4: \">d</tr>",
        );
        has("<tr class=bad><td class=n>!<td title=\"line 5: \">missing here: e<td></tr>");
        has("<a href=\"#first-own-logs\">own logs: the first difference</a>");
        has("<p class=bad>legate gets stuck: no &lt;answer&gt;");
        has("<td>4<td>1<td>1<td>2<td>8 + 9</tr>");
        has("<p>a note\n");
        has("<p>a line\n");
    }

    #[test]
    fn the_excerpt_is_on_it() {
        let page = html(&Excerpt { lanes: vec!["pool".into()], ..Excerpt::default() });
        assert!(!page.contains("<h3>") && !page.contains("first difference</a>"), "{page}");
    }
}
