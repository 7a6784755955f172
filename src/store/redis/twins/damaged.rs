//! Tests of corrupt lists.

use super::{
    text::{Kept, list},
    *,
};
use crate::{
    limit::{Algorithm, Unit, Window, permits},
    store::{Enforced, peek_charge},
};

const LIFETIME: Duration = Duration::from_secs(60);

fn limit() -> Limit {
    let algorithm = Algorithm::Concurrency { lifetime: LIFETIME };
    Limit { algorithm, ..Limit::fixed(5, Window::new(Unit::Minute)) }
}

fn ask(scripts: &Scripts, server: &mut redis::Connection, charges: &[Charge], now: Timestamp) {
    let command = decide::command(
        scripts.decide.eval(),
        &[DecideCall { charges, now, holder: None }],
        Jitter::default(),
    );
    let answer: redis::Value = command.query(server).unwrap();
    let answers = elements(answer, charges.len()).unwrap();
    decide::parse_reply(charges, &answers, false).unwrap();
}

/// The permits are not in order, or their running totals decrease. The outcomes may be wrong, but
/// every charge gets a reply, and no permit outlives the latest one.
#[test]
fn a_list_with_invalid_permits_gets_replies_and_expires() {
    let redis = testkit::redis::RedisServer::start();
    let connection = RefCell::new(redis.client());
    let scripts = Scripts::new();
    let limit = limit();
    let near = -100_000_000..100_000_000_i64;
    let moment = prop_oneof![8 => near, 1 => any::<i32>().prop_map(i64::from), 1 => Just(1 << 45)];
    let hits = prop_oneof![8 => 0..5_i64, 1 => 0..65_536_i64, 1 => Just(-1_i64)];
    let change = prop_oneof![
        4 => (0..9_u64).prop_map(Hits::Add),
        2 => (0..9_u64).prop_map(Hits::Refund),
        1 => Just(Hits::Refund(65_000)),
        1 => Just(Hits::Add(Hits::MAX)),
    ];
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() };
    let permits = vec((moment, hits), 1..9);
    let moves = vec((change, -50_000_000..50_000_000_i64), 1..9);
    proptest!(config, |(permits in permits, wide in any::<bool>(), start in any::<u16>(), skip in 0..9_usize, moves in moves)| {
        let mut connection = connection.borrow_mut();
        let server = &mut *connection;
        let key = counter(0, &limit, START);
        // Times before that of the first permit wrap around.
        let permits: Vec<_> = permits
            .iter()
            .map(|(moment, hits)| (START.as_micros().saturating_add_signed(*moment), hits.cast_unsigned() & 0xffff))
            .collect();
        let value = list(&permits, Kept { wide, start: start.into(), earlier: 1 << 46, skip });
        let set = |server: &mut redis::Connection| {
            redis::cmd("SET").arg(key.key.as_bytes()).arg(&value).exec(server).unwrap();
        };
        set(server);
        let charge = |hits| Charge { hits, enforced: Enforced::Yes, ..peek_charge(&key, &limit) };
        for (hits, pause) in &moves {
            let now = START.as_micros().saturating_add_signed(*pause);
            ask(&scripts, server, &[charge(*hits), charge(Hits::Add(1))], Timestamp::from_micros(now));
        }
        set(server);
        let latest = permits.iter().map(|(granted, _)| *granted).max().unwrap();
        let now = Timestamp::from_micros(latest).plus(LIFETIME);
        ask(&scripts, server, &[charge(Hits::Add(1))], now);
        let kept: Vec<u8> = redis::cmd("GET").arg(key.key.as_bytes()).query(server).unwrap();
        prop_assert_eq!(kept, list(&[(now.as_micros(), 1)], Kept::default()));
    });
}

/// Refunds hits of the permit that was granted at `granted`.
fn refund(
    scripts: &Scripts,
    server: &mut redis::Connection,
    (charge, granted): (&Charge, u64),
    now: Timestamp,
) {
    let last = Timestamp::from_micros(granted).plus(LIFETIME);
    let snapshot = Snapshot::Permits(permits::Summary { last, ..permits::Summary::default() });
    let settlement = Settlement::Refund { hits: 9, snapshot };
    let asked = [SettleCharge { charge, settlement, now }];
    let command = settle::command(scripts.settle.eval(), &asked, Jitter::default());
    let _: Vec<i64> = command.query(server).unwrap();
}

/// A list some of whose bytes have changed, and charges that follow.
#[derive(Debug)]
struct Damaged {
    /// Microseconds since 50 s before `START`, and hits.
    permits: Vec<(u64, u64)>,
    kept: Kept,
    /// Positions and new bytes.
    damage: Vec<(usize, u8)>,
    /// Hits, microseconds before them, and whether the charge is the only one of its call.
    moves: Vec<(Hits, u64, bool)>,
}

impl Damaged {
    fn get_replies(&self, scripts: &Scripts, server: &mut redis::Connection) {
        let limit = limit();
        let key = counter(0, &limit, START);
        let begin = START.as_micros() - 50_000_000;
        let mut permits: Vec<_> =
            self.permits.iter().map(|(micros, hits)| (begin + micros, *hits)).collect();
        permits.sort_unstable();
        let mut value = list(&permits, self.kept);
        for (at, byte) in &self.damage {
            if let Some(it) = value.get_mut(*at) {
                *it = *byte;
            }
        }
        redis::cmd("SET").arg(key.key.as_bytes()).arg(&value).exec(server).unwrap();
        let mut now = START;
        for (hits, pause, lone) in &self.moves {
            now = now.plus(Duration::from_micros(*pause));
            let charge =
                Charge { hits: *hits, enforced: Enforced::Yes, ..peek_charge(&key, &limit) };
            for (granted, _) in &permits {
                refund(scripts, server, (&charge, *granted), now);
            }
            let charges = vec![charge; if *lone { 1 } else { 2 }];
            ask(scripts, server, &charges, now);
        }
    }
}

/// The slots are not in order and far from their base.
#[test]
fn slots_that_contradict_the_header_get_replies() {
    let redis = testkit::redis::RedisServer::start();
    let damaged = Damaged {
        permits: vec![(0, 1), (0, 1), (0, 1)],
        kept: Kept { skip: 3, ..Kept::default() },
        damage: vec![(14, 0), (73, 1)],
        moves: vec![(Hits::Add(2), 0, false)],
    };
    damaged.get_replies(&Scripts::new(), &mut redis.client());
}

/// A changed byte stops no script.
#[test]
fn a_list_with_changed_bytes_gets_replies() {
    let redis = testkit::redis::RedisServer::start();
    let connection = RefCell::new(redis.client());
    let scripts = Scripts::new();
    let config = ProptestConfig { cases: 1_500, failure_persistence: None, ..Default::default() };
    let permit = (0..50_000_000_u64, 1..4_u64);
    let byte = (1..120_usize, prop_oneof![any::<u8>(), 0..6_u8]);
    let change = prop_oneof![(0..9_u64).prop_map(Hits::Add), (0..9_u64).prop_map(Hits::Refund)];
    proptest!(config, |(
        permits in vec(permit, 1..9), skip in 0..9_usize, wide in any::<bool>(),
        damage in vec(byte, 1..4), moves in vec((change, 0..9_000_000_u64, any::<bool>()), 1..6),
    )| {
        let kept = Kept { skip, wide, ..Kept::default() };
        let damaged = Damaged { permits, kept, damage, moves };
        damaged.get_replies(&scripts, &mut connection.borrow_mut());
    });
}
