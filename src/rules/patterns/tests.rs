use std::{hint::black_box, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::time::thread_cpu_time;

fn patterns(texts: &[impl AsRef<[u8]>]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text.as_ref())).collect()
}

/// The definition of [`Patterns::first`].
fn first_of(patterns: &[Pattern], text: &[u8]) -> Option<usize> {
    patterns.iter().position(|pattern| pattern.matches(text))
}

/// Lists of patterns with few different prefixes, suffixes and pieces.
fn lists() -> impl Strategy<Value = Vec<String>> {
    let short = || vec("[ab]{0,3}\\*[ab]{0,2}", 1..30);
    let pieces = || vec("[ab]{0,1}\\*(([ab]|ab|ba|aab|abb|bab){0,2}\\*){0,3}[ab]{0,1}", 1..60);
    prop_oneof![short(), pieces(), vec("[ab*]{0,5}\\*[ab*]{0,5}", 1..30)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_first_is_found_as_by_testing_each(
        list in lists(),
        texts in vec("[ab]{0,12}", 20),
        max_scanned in prop_oneof![Just(0), Just(3), Just(MAX_SCANNED)],
    ) {
        let all = patterns(&list);
        let index = Patterns::with_max_scanned(all.clone(), max_scanned);
        for text in texts {
            let expected = first_of(&all, text.as_bytes());
            prop_assert_eq!(index.first(text.as_bytes()), expected, "{} in {:?}", text, list);
        }
    }
}

#[test]
fn pieces_that_overlap_or_contain_each_other_are_found() {
    let list =
        ["*aa*aa*", "*aba*bab*", "*ab*b*ab*", "*a*a*a*", "*bb*a*", "*bb*b*", "*b*b*", "*ba*"];
    let all = patterns(&list);
    let index = Patterns::with_max_scanned(all.clone(), 0);
    for text in ["aaa", "aaaa", "abab", "ababab", "abbab", "bbb", "bba", "bb", "aa", "bab", ""] {
        assert_eq!(index.first(text.as_bytes()), first_of(&all, text.as_bytes()), "{text}");
    }
}

/// A list of patterns, with a text that matches the last one, and a text that
/// nearly matches many but none in full.
struct Shape {
    name: &'static str,
    pattern: fn(usize) -> String,
    text: fn(usize) -> String,
    miss: &'static str,
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "path_/v1/{i}/*",
        pattern: |index| format!("path_/v1/{index}/*"),
        text: |index| format!("path_/v1/{index}/cart"),
        miss: "path_/v1/none/cart",
    },
    Shape {
        name: "a*{i}",
        pattern: |index| format!("a*x{index}"),
        text: |index| format!("a-something-x{index}"),
        miss: "a-something-x",
    },
    Shape {
        name: "*{i}",
        pattern: |index| format!("*x{index}"),
        text: |index| format!("host_something-x{index}"),
        miss: "host_something-x",
    },
    Shape {
        name: "{i/100}*{i%100}",
        pattern: |index| format!("p{}/*/q{}", index / 100, index % 100),
        text: |index| format!("p{}/something/q{}", index / 100, index % 100),
        miss: "p0/something/q",
    },
    Shape {
        name: "*{i}*",
        pattern: |index| format!("*x{index}y*"),
        text: |index| format!("agent_some x{index}y thing"),
        miss: "agent_some x0 y thing",
    },
    Shape {
        name: "a*{i}*z",
        pattern: |index| format!("a*x{index}y*z"),
        text: |index| format!("a some x{index}y thing z"),
        miss: "a some x0 y thing z",
    },
    Shape {
        name: "*m*{i}*",
        pattern: |index| format!("*m*x{index}y*"),
        text: |index| format!("a some x{index}y thing"),
        miss: "a some x0y thing of x1y",
    },
    Shape {
        name: "*{i}*m*",
        pattern: |index| format!("*x{index}y*m*"),
        text: |index| format!("a x{index}y thing of mine"),
        miss: "m x0y thing of x1y",
    },
    Shape {
        name: "*{i/100}*{i%100}*",
        pattern: |index| format!("*x{}y*z{}y*", index / 100, index % 100),
        text: |index| format!("a x{}y thing z{}y", index / 100, index % 100),
        miss: "z0y thing of x0y",
    },
];

/// The average CPU time of `run`, in nanoseconds.
fn cost(mut run: impl FnMut()) -> f64 {
    let mut rounds = 1;
    loop {
        let start = thread_cpu_time();
        for _ in 0..rounds {
            run();
        }
        let elapsed = thread_cpu_time() - start;
        if Duration::from_millis(50) <= elapsed {
            return elapsed.as_secs_f64() * 1e9 / f64::from(rounds);
        }
        rounds *= 2;
    }
}

/// `cargo test --release --lib among_many_patterns -- --ignored --nocapture`
#[test]
#[ignore = "a measurement without assertions"]
fn measure_lookups_among_many_patterns() {
    for Shape { name, pattern, text, miss } in SHAPES {
        println!("{name}");
        let mut base = None;
        for count in [10, 10_000, 100_000] {
            let list: Vec<_> = (0..count).map(pattern).collect();
            let all = patterns(&list);
            let start = thread_cpu_time();
            let index = Patterns::new(all.clone());
            let built = thread_cpu_time() - start;
            let (last, miss) = (text(count - 1), miss.as_bytes());
            let last = last.as_bytes();
            assert_eq!(index.first(last), first_of(&all, last));
            assert_eq!(index.first(miss), first_of(&all, miss));
            let lookup_cost = |text| {
                cost(|| {
                    black_box(index.first(black_box(text)));
                })
            };
            let scan = cost(|| {
                black_box(first_of(&all, black_box(last)));
            });
            let (hit_cost, miss_cost) = (lookup_cost(last), lookup_cost(miss));
            let (base_hit, base_miss) = *base.get_or_insert((hit_cost, miss_cost));
            println!(
                "  {count:6}: last pattern {hit_cost:6.0} ns ({:.2} times that of 10), no pattern \
                 {miss_cost:6.0} ns ({:.2}); linear search {scan:.0} ns; built in {built:.0?}",
                hit_cost / base_hit,
                miss_cost / base_miss,
            );
        }
    }
}

/// `cargo test --release --lib of_long_values -- --ignored --nocapture`
#[test]
#[ignore = "a measurement without assertions"]
fn measure_lookups_of_long_values() {
    type List = (&'static str, fn(usize) -> String, &'static str);
    let lists: [List; 5] = [
        ("*{i}*m*, m first", |index| format!("*x{index}y*m*"), "m"),
        ("*m*{i}*, m last", |index| format!("*m*x{index}y*"), ""),
        ("a*{i}", |index| format!("a*x{index}"), "a"),
        ("*{i letters}*", |index| format!("*{}b*", "x".repeat(index % 200)), ""),
        ("*{letters}b*{i}*", |index| format!("*{}b*{index}*", "x".repeat(100)), ""),
    ];
    for (name, pattern, begin) in lists {
        let index = Patterns::new(patterns(&(0..10_000).map(pattern).collect::<Vec<_>>()));
        let pieces: String = (0..200_000).map(|index| format!("x{index}y")).collect();
        let letters = "x".repeat(1 << 20);
        for (kind, text) in [("pieces", pieces), ("one letter", letters)] {
            for length in [1_000, 10_000, 60_000, 1_000_000_u32] {
                let text = format!("{begin}{}", &text[..length as usize]);
                let cost = cost(|| {
                    black_box(index.first(black_box(text.as_bytes())));
                });
                println!(
                    "{name}, {kind}, {length} bytes: {:.1} ns a byte",
                    cost / f64::from(length)
                );
            }
        }
    }
}
