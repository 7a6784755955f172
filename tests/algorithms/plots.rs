//! The plots of `docs/algorithms.md`: the hits that each algorithm admits under the same
//! traffic. `UPDATE_DOCS=1 cargo test --test algorithms` draws them again.

use std::{collections::BTreeMap, env, fs, num::NonZeroU32, path::Path, time::Duration};

use tollgate::limit::{Algorithm, Hits, Limit, Unit, Window};

use crate::{
    counter::Counter,
    rules::most_within,
    svg::{Row, draw},
};

const SECOND: u64 = 1_000_000;
/// The window of all limits in seconds, and the requests they allow.
const WINDOW: u64 = 10;
const REQUESTS: u32 = 10;
/// A multiple of the window.
const START: u64 = 1_795_163_410 * SECOND;

fn algorithms() -> Vec<(Algorithm, u32, &'static str)> {
    let lease = Duration::from_secs(30);
    vec![
        (Algorithm::FixedWindow { count_denied: true }, REQUESTS, "10 per 10 s"),
        (Algorithm::SlidingWindow, REQUESTS, "10 per 10 s"),
        (Algorithm::SlidingLog, REQUESTS, "10 per 10 s"),
        (Algorithm::TokenBucket { burst: REQUESTS }, REQUESTS, "10 per 10 s, burst 10"),
        (Algorithm::TokenBucket { burst: 2 }, REQUESTS, "10 per 10 s, burst 2"),
        (Algorithm::Concurrency { lease }, 2, "2 at a time, 2 s each"),
    ]
}

/// Plays traffic, given as hits per second, against one limit. Returns the admitted hits
/// with their times.
fn admitted(limit: &Limit, asked: &[u64]) -> Vec<(u64, u64)> {
    let mut counter = Counter::new(limit);
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    let mut passed = Vec::new();
    for (second, asked) in (0..).zip(asked) {
        for one in 0..*asked {
            let now = START + second * SECOND + one * SECOND / asked;
            while let Some((end, calls)) = ends.first_key_value().filter(|it| *it.0 <= now) {
                counter.charge(Hits::Refund(*calls), *end);
                ends.pop_first();
            }
            if counter.charge(Hits::Add(1), now).over {
                continue;
            }
            passed.push((now - START, 1));
            if let Algorithm::Concurrency { .. } = limit.algorithm {
                *ends.entry(now + 2 * SECOND).or_default() += 1;
            }
        }
    }
    passed
}

fn plot(title: &str, asked: &[u64]) -> (String, Vec<u64>) {
    let window = Window::times(Unit::Second, NonZeroU32::new(WINDOW as u32).unwrap()).unwrap();
    let row = |(algorithm, requests, note): (Algorithm, u32, &str)| {
        let limit = Limit { algorithm, ..Limit::fixed(requests, window.clone()) };
        let passed = admitted(&limit, asked);
        let mut admitted = vec![0; asked.len()];
        passed.iter().for_each(|(at, hits)| admitted[(at / SECOND) as usize] += hits);
        let most = most_within(&passed, WINDOW * SECOND);
        Row { name: algorithm.name().into(), note: note.into(), admitted, most }
    };
    let rows: Vec<Row> = algorithms().into_iter().map(row).collect();
    (draw(title, asked, WINDOW, &rows), rows.iter().map(|it| it.most).collect())
}

/// A number of hits in each second from `from` to before `to`.
fn traffic(parts: &[(usize, usize, u64)]) -> Vec<u64> {
    let mut asked = vec![0; 40];
    parts.iter().for_each(|(from, to, count)| asked[*from..*to].fill(*count));
    asked
}

#[track_caller]
fn is_drawn(name: &str, title: &str, asked: &[u64], most: &[u64]) {
    let (drawing, actual) = plot(title, asked);
    assert_eq!(actual, most, "{title}");
    let file = Path::new("docs/plots").join(name);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all("docs/plots").unwrap();
        return fs::write(file, drawing).unwrap();
    }
    let drawn = fs::read_to_string(&file).unwrap_or_default();
    assert!(drawn == drawing, "{} is out of date: set UPDATE_DOCS=1", file.display());
}

#[test]
fn steady_overload_is_drawn() {
    let title = "Steady overload: three times what the limit lets pass";
    is_drawn("overload.svg", title, &traffic(&[(0, 40, 3)]), &[10, 10, 10, 19, 11, 10]);
}

#[test]
fn a_burst_at_the_edge_of_a_window_is_drawn() {
    let title = "A burst at the edge of a window, then twice the limit";
    let asked = traffic(&[(8, 10, 8), (10, 12, 8), (12, 40, 2)]);
    is_drawn("edge.svg", title, &asked, &[20, 17, 10, 19, 11, 10]);
}

#[test]
fn a_burst_after_a_pause_is_drawn() {
    let title = "Light use, a pause, then a burst that goes on";
    is_drawn("idle.svg", title, &traffic(&[(0, 5, 1), (24, 40, 6)]), &[20, 13, 10, 19, 11, 10]);
}
