//! A listener between a proxy and the service, which records the HTTP checks.

use std::{
    io::{self, Read, Write},
    mem,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;

use crate::network;

/// Forwards connections to the service.
#[derive(Debug)]
pub struct CheckTap {
    pub address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

/// How checks are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// By the service.
    Real,
    /// Not at all.
    Silence,
    /// With 503.
    Unavailable,
}

#[derive(Debug)]
struct State {
    service: SocketAddr,
    answers: Mutex<Answers>,
    /// All that each connection has sent.
    received: Mutex<Vec<Vec<u8>>>,
    open: Mutex<Vec<TcpStream>>,
    /// The listener ends at its next connection.
    ends: Mutex<bool>,
}

impl CheckTap {
    /// Listens for checks of the service at this address.
    pub fn start(service: SocketAddr) -> Self {
        let state = State {
            service,
            answers: Mutex::new(Answers::Real),
            received: Mutex::default(),
            open: Mutex::default(),
            ends: Mutex::default(),
        };
        let mut tap =
            Self { address: network::unused_address(), state: Arc::new(state), listener: None };
        tap.open();
        tap
    }

    /// Listens again after [`Self::close`].
    pub fn open(&mut self) {
        *self.state.ends.lock() = false;
        let listener = TcpListener::bind(self.address).unwrap();
        let state = Arc::clone(&self.state);
        self.listener = Some(thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if *state.ends.lock() {
                    return;
                }
                let state = Arc::clone(&state);
                thread::spawn(move || forward(client, &state));
            }
        }));
    }

    /// Closes all connections and refuses new ones.
    pub fn close(&mut self) {
        *self.state.ends.lock() = true;
        let _ = TcpStream::connect(self.address);
        self.listener.take().unwrap().join().unwrap();
        for stream in mem::take(&mut *self.state.open.lock()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Changes how checks are answered from now on.
    pub fn set_answers(&self, answers: Answers) {
        *self.state.answers.lock() = answers;
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.state.received.lock().len()
    }

    /// The heads of all checks so far. Panics if anything else arrived, such as a body.
    pub fn checks(&self) -> Vec<String> {
        let mut checks = Vec::new();
        for received in self.state.received.lock().iter() {
            for head in String::from_utf8_lossy(received).split_terminator("\r\n\r\n") {
                let line = head.lines().next().unwrap_or_default();
                assert!(line.contains(" /check/"), "this is no check: {head}");
                checks.push(head.to_owned());
            }
        }
        checks
    }

    /// The number of checks of a target that contains `text`.
    pub fn checks_of(&self, text: &str) -> usize {
        self.checks().iter().filter(|head| head.contains(text)).count()
    }
}

/// Serves one connection.
fn forward(mut client: TcpStream, state: &State) -> io::Result<()> {
    let mut server = TcpStream::connect(state.service)?;
    state.open.lock().extend([client.try_clone()?, server.try_clone()?]);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let mut received = state.received.lock();
    let number = received.len();
    received.push(Vec::new());
    drop(received);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return server.shutdown(Shutdown::Write);
        }
        let bytes = &buffer[..length];
        state.received.lock()[number].extend_from_slice(bytes);
        let answers = *state.answers.lock();
        match answers {
            Answers::Real => server.write_all(bytes)?,
            Answers::Silence => {}
            Answers::Unavailable => {
                client.write_all(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n")?;
            }
        }
    }
}
