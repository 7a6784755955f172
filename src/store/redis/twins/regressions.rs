//! Regressions: games on which the scripts and their twin once disagreed.

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

/// Plays `moves`, all at the same time, on one counter with the initial value `old`.
fn play(algorithm: Algorithm, old: &str, moves: &[Move]) -> Record {
    let limit = Limit { algorithm, ..Limit::fixed(5, Window::new(Unit::Minute)) };
    let game = Game {
        counters: vec![(limit, old.into())],
        moves: moves.iter().map(|next| (0, next.clone())).collect(),
    };
    let redis = testkit::redis::RedisServer::start();
    let mut connection = redis.client();
    let scripts = Scripts::new();
    let mut played = Player::new(&game, &scripts, &mut connection);
    played.play(&game.moves);
    let key = counter(0, &game.counters[0].0, START).key;
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

#[test]
fn two_settlements_of_a_hold_in_one_script_run_count_once() {
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
fn a_holding_call_may_refund_more_than_lua_can_represent() {
    let most = Hits::MAX;
    let changes = [Hits::Refund(most), Hits::Refund(most), Hits::Refund(1)];
    let more = [Hits::Add(most - 1), Hits::Add(most), Hits::Add(5)];
    let charges: Vec<_> =
        changes.into_iter().chain(more).map(|change| (change, AllOrNothing)).collect();
    let counts_all = Algorithm::FixedWindow { count_denied: true };
    play(counts_all, "", &[Move::Call(vec![call(Some(1), &charges)])]);
}

#[test]
fn a_full_log_has_an_exact_time_of_the_next_room() {
    let set = Move::Settle(vec![settled(&[How::Set(Hits::MAX)])], false);
    let hits = |hits| Move::Call(vec![call(None, &[(Hits::Add(hits), Independent)])]);
    play(Algorithm::SlidingLog, "", &[hits(0), set, hits(4)]);
}

#[test]
fn a_permit_that_ends_beyond_the_numbers_of_lua_is_ignored() {
    let look = Move::Call(vec![call(None, &[(Hits::Add(0), Independent)])]);
    for old in ["9007199254740990@1,", "9007199254740992:1,"] {
        assert_eq!(play(Algorithm::SlidingLog, old, std::slice::from_ref(&look)).state, None);
    }
}
