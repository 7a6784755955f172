//! Any order of events: no connection is closed before one that has more reason to go.

use proptest::{collection::vec, prelude::*};
use tokio::time::Instant;

use super::*;

const FEW_PLACES: ConnectionBounds = ConnectionBounds { most: 8, most_per_peer: Some(6) };

#[derive(Clone, Copy, Debug)]
enum Move {
    /// An address begins a handshake.
    Begin(u8),
    /// The preface of the nth handshake arrives.
    Establish(usize),
    /// A call on the nth connection is answered.
    Call(usize),
    Leave(usize),
    /// So many milliseconds pass.
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        5 => (0..6_u8).prop_map(Move::Begin),
        3 => (0..16_usize).prop_map(Move::Establish),
        2 => (0..8_usize).prop_map(Move::Call),
        1 => (0..16_usize).prop_map(Move::Leave),
        1 => (0..3_000_u64).prop_map(Move::Wait),
    ];
    vec(one, 1..120)
}

struct Player {
    host: u8,
    client: Client,
    /// The number of the move that made it a handshake, or then a connection.
    begun: usize,
    is_connection: bool,
    last_call: Option<Instant>,
}

struct Game {
    room: Arc<Room>,
    players: Vec<Player>,
}

impl Game {
    async fn play(moves: &[Move]) -> Result<(), TestCaseError> {
        let mut game = Self { room: room(FEW_PLACES), players: Vec::new() };
        for (number, step) in moves.iter().enumerate() {
            game.apply(*step, number).await;
            game.check(number)?;
        }
        Ok(())
    }

    async fn apply(&mut self, step: Move, number: usize) {
        match step {
            Move::Begin(host) => self.players.push(Player {
                host,
                client: Client::begin(&self.room, address(host)),
                begun: number,
                is_connection: false,
                last_call: None,
            }),
            Move::Establish(index) => {
                let Some(index) = self.find(false, index) else { return };
                if self.players[index].client.place.establish().is_err() {
                    self.players.remove(index);
                    return;
                }
                self.players[index].begun = number;
                self.players[index].is_connection = true;
            }
            Move::Call(index) => {
                let Some(index) = self.find(true, index) else { return };
                self.players[index].client.call();
                self.players[index].last_call = Some(Instant::now());
            }
            Move::Leave(index) => {
                if index < self.players.len() {
                    self.players.remove(index);
                }
            }
            Move::Wait(millis) => advance(Duration::from_millis(millis)).await,
        }
    }

    /// The index of the nth handshake or connection.
    fn find(&self, is_connection: bool, number: usize) -> Option<usize> {
        let all = self.players.iter().enumerate();
        let mut kind = all.filter(|(_, player)| player.is_connection == is_connection);
        kind.nth(number).map(|(index, _)| index)
    }

    /// Removes the one that move `number` has closed, after a comparison with all others but
    /// the one for which it was closed.
    fn check(&mut self, number: usize) -> Result<(), TestCaseError> {
        let Some(index) = self.players.iter_mut().position(|it| it.client.is_closed()) else {
            return Ok(());
        };
        let closed = self.players.remove(index);
        let is_rival = |it: &&Player| it.is_connection == closed.is_connection && it.begun < number;
        let rivals: Vec<_> = self.players.iter().filter(is_rival).collect();
        let count = |host| rivals.iter().filter(|it| it.host == host).count();
        for rival in &rivals {
            let is_older = closed.begun < rival.begun;
            if closed.is_connection {
                let called_earlier = closed.last_call < rival.last_call;
                prop_assert!(rival.host != closed.host || is_older || called_earlier);
            } else {
                let (own, others) = (count(closed.host) + 1, count(rival.host));
                let has_as_many = rival.host == closed.host || own == others;
                prop_assert!(others <= own && (is_older || !has_as_many));
            }
        }
        prop_assert!(!self.players.iter_mut().any(|it| it.client.is_closed()));
        Ok(())
    }
}

proptest! {
    /// A handshake that is closed is the oldest of the addresses with the most. A connection
    /// that is closed is older than any of its address with no later call. Its age does not
    /// contain its handshake.
    #[test]
    fn none_is_closed_before_one_with_more_reason(moves in moves()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(Game::play(&moves))?;
    }
}
