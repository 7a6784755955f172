//! The plots of `docs/algorithms.md`: the hits that each algorithm admits under the same
//! traffic. `UPDATE_DOCS=1 cargo test --test algorithms` draws them again.

use std::{collections::BTreeMap, env, fs, num::NonZeroU32, path::Path, time::Duration};

use tollgate::limit::{Algorithm, Hits, Limit, Unit, Window};

use crate::{
    counter::Counter,
    rules::{PassedHits, most_within},
    svg::{Row, draw},
};

const SECOND: u64 = 1_000_000;
/// The window of all limits in seconds, and the requests they allow.
const WINDOW: u64 = 10;
const REQUESTS: u32 = 10;
/// A multiple of the window.
const START: u64 = 1_795_163_410 * SECOND;

/// A limit, and its description in the plot.
struct PlottedLimit {
    algorithm: Algorithm,
    requests: u32,
    note: &'static str,
}

fn limits() -> Vec<PlottedLimit> {
    let lifetime = Duration::from_secs(30);
    let window = "10 per 10 s";
    let mut limits = Vec::new();
    for (algorithm, requests, note) in [
        (Algorithm::FixedWindow { count_denied: true }, REQUESTS, window),
        (Algorithm::SlidingWindow, REQUESTS, window),
        (Algorithm::SlidingLog, REQUESTS, window),
        (Algorithm::TokenBucket { burst: REQUESTS }, REQUESTS, "10 per 10 s, burst 10"),
        (Algorithm::TokenBucket { burst: 2 }, REQUESTS, "10 per 10 s, burst 2"),
        (Algorithm::Concurrency { lifetime }, 2, "2 at a time, 2 s each"),
    ] {
        limits.push(PlottedLimit { algorithm, requests, note });
    }
    limits
}

/// Sends traffic, given as hits per second, to one limit. Returns the admitted hits.
fn admitted(limit: &Limit, traffic: &[u64]) -> Vec<PassedHits> {
    let mut counter = Counter::new(limit);
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    let mut passed = Vec::new();
    for (second, hits) in (0..).zip(traffic) {
        for hit in 0..*hits {
            let now = START + second * SECOND + hit * SECOND / hits;
            while let Some(first) = ends.first_entry()
                && *first.key() <= now
            {
                let (end, calls) = first.remove_entry();
                counter.charge(Hits::Refund(calls), end);
            }
            if counter.charge(Hits::Add(1), now).over {
                continue;
            }
            passed.push(PassedHits { at: now - START, hits: 1 });
            if let Algorithm::Concurrency { .. } = limit.algorithm {
                *ends.entry(now + 2 * SECOND).or_default() += 1;
            }
        }
    }
    passed
}

/// A drawing, and the maximum of the hits that each limit admitted within its window.
struct Plot {
    drawing: String,
    most: Vec<u64>,
}

fn plot(title: &str, traffic: &[u64]) -> Plot {
    let window = Window::times(Unit::Second, NonZeroU32::new(WINDOW as u32).unwrap()).unwrap();
    let (mut rows, mut all_most) = (Vec::new(), Vec::new());
    for PlottedLimit { algorithm, requests, note } in limits() {
        let limit = Limit { algorithm, ..Limit::fixed(requests, window.clone()) };
        let passed = self::admitted(&limit, traffic);
        let mut admitted = vec![0; traffic.len()];
        for PassedHits { at, hits } in &passed {
            admitted[(at / SECOND) as usize] += hits;
        }
        let most = most_within(&passed, WINDOW * SECOND);
        all_most.push(most);
        rows.push(Row { name: algorithm.name().into(), note: note.into(), admitted, most });
    }
    Plot { drawing: draw(title, traffic, WINDOW, &rows), most: all_most }
}

/// Hits per second, from the first second to before the last one.
type Part = (usize, usize, u64);

fn traffic(parts: &[Part]) -> Vec<u64> {
    let mut traffic = vec![0; 40];
    for (from, to, hits) in parts {
        traffic[*from..*to].fill(*hits);
    }
    traffic
}

#[track_caller]
fn check_plot(name: &str, title: &str, traffic: &[u64], most: &[u64]) {
    let Plot { drawing, most: actual } = plot(title, traffic);
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
fn steady_overload_check_plot() {
    let title = "Steady overload: three times what the limit lets pass";
    check_plot("overload.svg", title, &traffic(&[(0, 40, 3)]), &[10, 10, 10, 19, 11, 10]);
}

#[test]
fn a_burst_at_the_edge_of_a_window_check_plot() {
    let title = "A burst at the edge of a window, then twice the limit";
    let burst = traffic(&[(8, 10, 8), (10, 12, 8), (12, 40, 2)]);
    check_plot("edge.svg", title, &burst, &[20, 17, 10, 19, 11, 10]);
}

#[test]
fn a_burst_after_a_pause_check_plot() {
    let title = "Light use, a pause, then a burst that goes on";
    check_plot("idle.svg", title, &traffic(&[(0, 5, 1), (24, 40, 6)]), &[20, 13, 10, 19, 11, 10]);
}
