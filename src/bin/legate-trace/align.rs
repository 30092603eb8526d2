//! The alignment of two lanes: the longest sequence of stages that both have, and between them what only one has.

use crate::compare::Pair;
use crate::lanes::Event;

/// How many events of each side are aligned at a time: the table has the square of it.
pub const WINDOW: usize = 1024;

/// Aligns window by window; of each the first half counts, as what comes later may still change it.
pub fn align(mut envoy: &[Event], mut legate: &[Event]) -> Vec<Pair> {
    let mut all = Vec::new();
    while envoy.len() > WINDOW || legate.len() > WINDOW {
        let pairs = align_window(&envoy[..WINDOW.min(envoy.len())], &legate[..WINDOW.min(legate.len())]);
        let (mut of_envoy, mut of_legate) = (0, 0);
        let in_first_half = |pair: &Pair| {
            of_envoy += usize::from(pair.envoy.is_some());
            of_legate += usize::from(pair.legate.is_some());
            of_envoy.max(of_legate) <= WINDOW / 2
        };
        let kept: Vec<Pair> = pairs.into_iter().take_while(in_first_half).collect();
        envoy = &envoy[kept.iter().filter(|pair| pair.envoy.is_some()).count()..];
        legate = &legate[kept.iter().filter(|pair| pair.legate.is_some()).count()..];
        all.extend(kept);
    }
    all.append(&mut align_window(envoy, legate));
    all
}

/// Two events of the same stage count for more when their details are equal, too, and when they name the same connection.
fn score(envoy: &Event, legate: &Event) -> u32 {
    let named = u32::from(envoy.conn.is_some());
    match envoy.same_stage(legate) {
        true if envoy.differing_details(legate).is_empty() => 4 + named,
        true => 3 + named,
        false => 0,
    }
}

fn align_window(envoy: &[Event], legate: &[Event]) -> Vec<Pair> {
    let width = legate.len() + 1;
    // The best score of what begins at event i of Envoy's and j of legate's.
    let mut best = vec![0u32; (envoy.len() + 1) * width];
    for i in (0..envoy.len()).rev() {
        for j in (0..legate.len()).rev() {
            let gap = best[(i + 1) * width + j].max(best[i * width + j + 1]);
            let matched = match score(&envoy[i], &legate[j]) {
                0 => 0,
                score => score + best[(i + 1) * width + j + 1],
            };
            best[i * width + j] = gap.max(matched);
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < envoy.len() || j < legate.len() {
        let here = best[i * width + j];
        let score = match (envoy.get(i), legate.get(j)) {
            (Some(a), Some(b)) => score(a, b),
            _ => 0,
        };
        if score > 0 && here == score + best[(i + 1) * width + j + 1] {
            pairs.push(Pair::new(envoy.get(i), legate.get(j)));
            (i, j) = (i + 1, j + 1);
        } else if i < envoy.len() && here == best[(i + 1) * width + j] {
            pairs.push(Pair::new(envoy.get(i), None));
            i += 1;
        } else {
            pairs.push(Pair::new(None, legate.get(j)));
            j += 1;
        }
    }
    pairs
}
