//! Runs a fuzz target without coverage: on its corpus, and on random mutations of it.

use std::{
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    time::Duration,
};

use fastrand::Rng;
use tokio::time::Instant;

/// The mutations in a run without `FUZZ_SECONDS`.
const MUTATIONS: u64 = 2_000;
/// Bounds a run without `FUZZ_SECONDS` on a slow machine.
const SECONDS: u64 = 5;
/// Longer inputs only slow the target down.
const MAX_LENGTH: usize = 16 * 1024;

/// The seed without `FUZZ_SEED`, so that a change does not fail on a mutation that it has not
/// caused.
const SEED: u64 = 1;

/// Runs `check` on each file of `fuzz/corpus/TARGET`, and then on mutations: for the time in
/// the variable `FUZZ_SECONDS` if it is set. They are the same in each run, unless the variable
/// `FUZZ_SEED` is another number or `random`.
///
/// # Panics
///
/// If `check` does, after writing the input to `fuzz/artifacts/TARGET`.
pub fn run(target: &str, check: fn(&[u8])) {
    let corpus = read_corpus(target);
    for input in &corpus {
        run_once(target, check, input, None);
    }
    let wanted = env::var("FUZZ_SECONDS")
        .ok()
        .map(|it| it.parse().expect("FUZZ_SECONDS is a whole number of seconds"));
    let ends = Instant::now() + Duration::from_secs(wanted.unwrap_or(SECONDS));
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let mut executed = 0_u64;
    while Instant::now() < ends && (wanted.is_some() || executed < MUTATIONS) {
        run_once(target, check, &mutate(&corpus, &mut rng), Some(seed));
        executed += 1;
    }
    let files = corpus.len();
    println!("fuzz: {target}: {files} files of the corpus, {executed} mutations, seed {seed}");
}

fn seed() -> u64 {
    match env::var("FUZZ_SEED").as_deref() {
        Ok("random") => fastrand::u64(..),
        Ok(number) => number.parse().expect("FUZZ_SEED is a whole number or `random`"),
        Err(_) => SEED,
    }
}

fn fuzz_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

fn read_corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz_folder().join("corpus").join(target);
    let mut paths = Vec::new();
    for file in fs::read_dir(&folder).expect("the target has a corpus") {
        paths.push(file.expect("the folder is readable").path());
    }
    // A seed chooses files by their position, and each file system has an order of its own.
    paths.sort();
    let mut corpus = Vec::new();
    for path in paths {
        corpus.push(fs::read(path).expect("the file is readable"));
    }
    assert!(!corpus.is_empty(), "{} contains no file", folder.display());
    corpus
}

/// `seed` is that of the mutations.
fn run_once(target: &str, check: fn(&[u8]), input: &[u8], seed: Option<u64>) {
    let Err(failure) = panic::catch_unwind(AssertUnwindSafe(|| check(input))) else { return };
    let folder = fuzz_folder().join("artifacts").join(target);
    fs::create_dir_all(&folder).expect("the folder can be created");
    let file = folder.join("mutated");
    fs::write(&file, input).expect("the file is writable");
    if let Some(seed) = seed {
        eprintln!("fuzz: a mutation failed, of the seed {seed} (FUZZ_SEED)");
    }
    eprintln!("to repeat it: fuzz/run fuzz/artifacts/{target}/mutated {target}");
    panic::resume_unwind(failure);
}

/// A random file of the corpus after one to five random changes.
fn mutate(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = corpus[rng.usize(..corpus.len())].clone();
    for _ in 0..rng.u8(1..=5) {
        change(&mut input, corpus, rng);
    }
    input.truncate(MAX_LENGTH);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    let end = (at + rng.usize(..=32)).min(input.len());
    match rng.u8(..6) {
        0 => {
            input.drain(at..end);
        }
        1 => {
            let repeated = input[at..end].repeat(rng.usize(1..=8));
            input.splice(at..at, repeated);
        }
        2 => {
            // A part of any file, which often contains a word of the format.
            let other = &corpus[rng.usize(..corpus.len())];
            let from = rng.usize(..=other.len());
            let to = (from + rng.usize(..=64)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        3 => input.insert(at, rng.u8(..)),
        4 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        _ => {
            const BYTES: [u8; 12] = *b"\0\n\r \t\"'09-\x7f\xff";
            if let Some(byte) = input.get_mut(at) {
                *byte = BYTES[rng.usize(..BYTES.len())];
            }
        }
    }
}
