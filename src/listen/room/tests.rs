use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::advance,
};

use super::*;

mod fairness;

const BOUNDS: ConnectionBounds = ConnectionBounds { most: 10, most_per_peer: Some(6) };

fn room(bounds: ConnectionBounds) -> Arc<Room> {
    let room = Room::new(Purpose::Grpc, bounds);
    room.report_to(Arc::new(Metrics::new(0.8)));
    room
}

fn address(host: u8) -> Option<SocketAddr> {
    Some(SocketAddr::from(([10, 0, 0, host], 1)))
}

/// A connection, with both ends of its stream.
struct Client {
    place: Place,
    stream: Watched<DuplexStream>,
    theirs: DuplexStream,
}

impl Client {
    /// A handshake.
    fn begin(room: &Arc<Room>, address: Option<SocketAddr>) -> Self {
        let (ours, theirs) = duplex(8);
        let (place, stream) = room.enter(ours, address);
        Self { place, stream, theirs }
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.stream.read_u8().now_or_never(), Some(Err(_)))
    }

    /// Sends something that is no call.
    async fn ping(&mut self) {
        self.theirs.write_u8(0).await.unwrap();
        self.stream.read_u8().await.unwrap();
    }

    fn call(&self) {
        self.place.activity().note_call();
    }
}

/// An established connection, or `None` if there is no place for it.
fn connect(room: &Arc<Room>, address: Option<SocketAddr>) -> Option<Client> {
    let mut client = Client::begin(room, address);
    client.place.establish().ok().map(|()| client)
}

fn counts(room: &Room) -> (usize, usize) {
    let members = room.members.lock();
    (members.handshakes.len(), members.connections.len())
}

#[tokio::test(start_paused = true)]
async fn each_address_has_a_bound() {
    let room = room(BOUNDS);
    let places: Vec<_> = (0..6).filter_map(|_| connect(&room, address(1))).collect();
    assert_eq!(places.len(), 6);
    assert!(connect(&room, address(1)).is_none());
    assert!(connect(&room, address(2)).is_some());
    drop(places);
    assert!(connect(&room, address(1)).is_some());
    assert_eq!(counts(&room), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_of_the_same_address_is_closed() {
    let room = room(BOUNDS);
    let mut places: Vec<_> = (0..6).filter_map(|_| connect(&room, address(1))).collect();
    advance(SILENCE).await;
    places[0].ping().await;
    for client in &places[1..] {
        client.call();
    }
    let _new = connect(&room, address(1)).unwrap();
    let closed: Vec<_> = places.iter_mut().map(Client::is_closed).collect();
    assert_eq!(closed, [true, false, false, false, false, false]);
    assert!(connect(&room, address(1)).is_none());
    // The closed one gives back no place of others.
    drop(places);
    assert_eq!(counts(&room), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn local_peers_have_no_bound_of_their_own() {
    let room = room(BOUNDS);
    let places: Vec<_> = (0..10).filter_map(|_| connect(&room, None)).collect();
    assert_eq!(places.len(), 10);
    assert!(connect(&room, None).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_address_with_most_connections_makes_room() {
    let room = room(BOUNDS);
    let mut many: Vec<_> = (0..6).filter_map(|_| connect(&room, address(1))).collect();
    let mut few: Vec<_> = (0..4).filter_map(|_| connect(&room, address(2))).collect();
    // None is silent, and the new one is not of a modest peer.
    assert!(connect(&room, address(2)).is_none());
    let probe = connect(&room, address(3));
    assert!(probe.is_some());
    advance(SILENCE).await;
    let more = connect(&room, address(2));
    assert!(more.is_some());
    assert_eq!(many.iter_mut().filter_map(|it| it.is_closed().then_some(())).count(), 2);
    assert!(!few.iter_mut().any(Client::is_closed));
}

#[tokio::test(start_paused = true)]
async fn many_peers_without_calls_give_way_before_one_with_calls() {
    let bounds = ConnectionBounds { most: 100, most_per_peer: None };
    for local in [false, true] {
        let room = room(bounds);
        let from = |host| if local { None } else { address(host) };
        let mut proxy: Vec<_> = (0..3).filter_map(|_| connect(&room, from(1))).collect();
        let mut others = Vec::new();
        for round in 0..1_000_u16 {
            if round % 85 == 0 {
                // One call each 1.7 s.
                proxy.iter().for_each(Client::call);
            }
            advance(Duration::from_millis(20)).await;
            let new = connect(&room, from(2 + u8::try_from(round % 200).unwrap()));
            others.extend(new);
            others.retain_mut(|other| !other.is_closed());
            for other in &mut others {
                other.ping().await;
            }
            assert!(!proxy.iter_mut().any(Client::is_closed), "{round}");
        }
        assert!(90 < others.len() && connect(&room, from(250)).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_take_no_places_of_connections() {
    let room = room(BOUNDS);
    let mut silent: Vec<_> = (0..100).map(|_| Client::begin(&room, address(1))).collect();
    assert_eq!(counts(&room), (MIN_HANDSHAKES, 0));
    let closed = silent.iter_mut().map(Client::is_closed).take_while(|closed| *closed).count();
    assert_eq!(closed, 100 - MIN_HANDSHAKES);
    let places: Vec<_> = (2..12).filter_map(|host| connect(&room, address(host))).collect();
    assert_eq!((places.len(), counts(&room)), (10, (MIN_HANDSHAKES - 1, 10)));
    drop((silent, places));
    assert_eq!(counts(&room), (0, 0));
}

#[test]
fn the_addresses_of_an_ipv6_host_are_one_peer() {
    let peer = |text: &str| Peer::of(Some(SocketAddr::new(text.parse().unwrap(), 1)));
    assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
    assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
    assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
    assert_eq!(peer("2001:db8::1").to_string(), "2001:db8::/64");
}
