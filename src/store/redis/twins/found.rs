//! Games in which the scripts and their twin were once of different minds.

use super::{
    moves::{CallOf, ChargeOf, How, Move, SettleOf},
    *,
};
use crate::{
    limit::{Algorithm, Unit, Window},
    store::{
        Consume::{self, AllOrNothing, Independent},
        Enforced,
    },
};

/// Plays `moves`, at one moment, on one counter under whose name `old` is found.
fn play(algorithm: Algorithm, old: &str, moves: &[Move]) -> Record {
    let limit = Limit { algorithm, ..Limit::fixed(5, Window::new(Unit::Minute)) };
    let game = Game {
        counters: vec![(limit, old.into())],
        moves: moves.iter().map(|it| (0, it.clone())).collect(),
    };
    let redis = testkit::redis::RedisServer::start();
    let mut connection = redis.client();
    let scripts = Scripts::new();
    let mut played = Played::of(&game, &scripts, &mut connection);
    played.play(&game.moves);
    let key = counter(0, &game.counters[0].0, BEGIN).key;
    played.kept[&key].0.clone()
}

fn call(holder: Option<u64>, charges: &[(Hits, Consume)]) -> CallOf {
    let charge = |&(hits, consume): &(Hits, Consume)| ChargeOf {
        counter: 0,
        more: 0,
        hits,
        consume,
        enforced: Enforced::No,
        refused: false,
    };
    CallOf { pause: 0, holder, charges: charges.iter().map(charge).collect() }
}

fn settled(how: &[How]) -> Vec<SettleOf> {
    how.iter().map(|how| SettleOf { charge: 0, how: *how }).collect()
}

/// What was held is counted once, however many settlements of it are in one script.
#[test]
fn a_settlement_that_comes_twice_in_one_script_counts_once() {
    let hit = [(Hits::Add(2), AllOrNothing)];
    let holds = Move::Call(vec![call(Some(1), &hit), call(Some(2), &hit)]);
    let count = |id| settled(&[How::Count(id, None)]);
    let once = Move::Settle(vec![count(2)], true);
    let twice = Move::Settle(vec![count(1), count(2), count(1)], true);
    let record = play(Algorithm::SlidingWindow, "", &[holds, once, twice]);
    let Some(State::Window(state)) = record.state else { panic!("{record:?}") };
    assert_eq!((state.current, record.holds), (4, vec![]));
}

#[test]
fn a_call_that_gives_back_more_than_lua_counts_holds_the_same() {
    let most = Hits::MAX;
    let changes = [Hits::Refund(most), Hits::Refund(most), Hits::Refund(1)];
    let more = [Hits::Add(most - 1), Hits::Add(most), Hits::Add(5)];
    let charges: Vec<_> = changes.into_iter().chain(more).map(|it| (it, AllOrNothing)).collect();
    let counts_all = Algorithm::FixedWindow { count_denied: true };
    play(counts_all, "", &[Move::Call(vec![call(Some(1), &charges)])]);
}

#[test]
fn a_full_log_tells_when_it_is_free_to_the_hit() {
    let set = Move::Settle(vec![settled(&[How::Set(Hits::MAX)])], false);
    let hits = |hits| Move::Call(vec![call(None, &[(Hits::Add(hits), Independent)])]);
    play(Algorithm::SlidingLog, "", &[hits(0), set, hits(4)]);
}

#[test]
fn a_lease_that_ends_when_lua_does_not_count_any_more_is_not_one() {
    let look = Move::Call(vec![call(None, &[(Hits::Add(0), Independent)])]);
    for old in ["9007199254740990@1,", "9007199254740992:1,"] {
        assert_eq!(play(Algorithm::SlidingLog, old, std::slice::from_ref(&look)).state, None);
    }
}
