//! The reasons and kinds that statistics tell apart, each with its label.

/// Declares enums of reasons: each variant with the label that Prometheus and StatsD show.
macro_rules! reasons {
    ($(
        $(#[$attributes:meta])*
        pub enum $name:ident {
            $( $(#[$variant_attributes:meta])* $variant:ident = $label:literal, )+
        }
    )+) => { $(
        $(#[$attributes])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$variant_attributes])* $variant, )+
        }

        impl $name {
            /// The labels of all reasons, which are shown from the start.
            pub(super) const LABELS: &[&str] = &[$( $label, )+];

            pub(super) const fn label(self) -> &'static str {
                match self {
                    $( Self::$variant => $label, )+
                }
            }
        }
    )+ };
}

reasons! {
    /// The reason why a request is answered with an error.
    pub enum ErrorType {
        /// The request is invalid or cannot be read, or no rules are loaded.
        Service = "service_error",
        /// The counter store failed.
        Store = "redis_error",
    }

    /// The reason why the admin API does not admit a request.
    pub enum AdminDenial {
        /// Its host is not one of the listener.
        Host = "host",
        /// A page of another site caused it.
        CrossSite = "cross_site",
        /// It has no token.
        NoToken = "no_token",
        /// Its token is not known.
        WrongToken = "wrong_token",
        /// Its address failed to log in too often.
        TooManyFailures = "too_many_failures",
    }

    /// The reason why a span is not delivered to the collector.
    pub enum LostSpan {
        /// The queue of spans was full.
        QueueFull = "queue_full",
        /// The collector refused the span or did not answer.
        ExportFailed = "export_failed",
    }

    /// An operation of an operator on one counter.
    pub enum CounterOperation {
        /// The counter was looked at.
        Look = "look",
        /// The counter was deleted.
        Reset = "reset",
        /// The counter was set to a value.
        Set = "set",
    }

    /// The reason why a line is missing in the decision log.
    pub enum LostDecision {
        /// There were more lines in a second than allowed.
        OverRate = "over_rate",
        /// The queue of lines was full.
        QueueFull = "queue_full",
        /// The line could not be written.
        WriteFailed = "write_failed",
    }

    /// The reason why a connection is closed for lack of room.
    pub enum ClosedConnection {
        /// The listener has as many as it may.
        Full = "full",
        /// The address has as many as it may.
        Peer = "peer",
        /// There are too many unfinished handshakes.
        Handshake = "handshake",
    }

    /// The reason why a call is refused or ended because of its client.
    pub enum CutOff {
        /// The message was not complete in time.
        LateMessage = "late_message",
        /// The client did not read the answer in time.
        AnswerNotTaken = "answer_not_taken",
        /// The connection has too many streams of health or reflection.
        TooManyStreams = "too_many_streams",
        /// The memory for calls in flight was used up.
        NoRoom = "no_room",
        /// The connection held the most of this memory, and was closed.
        ConnectionClosed = "connection_closed",
    }
}
