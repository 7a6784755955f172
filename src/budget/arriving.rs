//! Bytes of something that is of no use before it is whole.

use std::sync::Arc;

use super::{Held, HeldConnection, NoRoom, Share};

/// What a connection keeps of something that has arrived in part, such as a head of HTTP.
#[derive(Debug)]
pub struct Arriving {
    held: Held,
    connection: Option<HeldConnection>,
}

impl Arriving {
    /// Nothing has arrived.
    pub fn new(share: &Arc<Share>) -> Self {
        let held = Held { share: Arc::clone(share), bytes: 0, waits: true, is_answer: false };
        Self { held, connection: None }
    }

    /// It takes so many bytes from now on, and the connection counts with them. With 0,
    /// nothing waits for the peer any more.
    ///
    /// # Errors
    ///
    /// If the budget has no room for more.
    pub fn set(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if bytes == 0 {
            self.connection = None;
        } else if self.connection.is_none() {
            self.connection = Some(self.held.share.hold_connection());
        }
        self.set_alone(bytes)
    }

    /// [`Self::set`] without the connection, whose number is bounded before its preface.
    ///
    /// # Errors
    ///
    /// If the budget has no room for more.
    pub fn set_alone(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.held.set(bytes)
    }
}
