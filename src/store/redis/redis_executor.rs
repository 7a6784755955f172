//! Executes batches over a connection to Redis.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::{
    batch::{Batch, BatchPart},
    coalesced::{Increment, IncrementReply},
    connection::ServerConnection,
    count, decide,
    executor::BatchExecutor,
    jitter::Jitter,
    lua_script::LuaScript,
    managed_connection::ManagedConnection,
    node_error::NodeError,
    replies::{PartReply, PartResult},
    settle,
};
use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct RedisExecutor {
    connection: Arc<ManagedConnection>,
    jitter: Jitter,
    count: LuaScript,
    decide: LuaScript,
    settle: LuaScript,
}

impl RedisExecutor {
    pub(super) fn new(connection: Arc<ManagedConnection>, jitter: Jitter) -> Self {
        Self {
            connection,
            jitter,
            count: LuaScript::new(count::SOURCE.to_owned()),
            decide: LuaScript::new(decide::source()),
            settle: LuaScript::new(settle::source()),
        }
    }

    fn script(&self, part: &BatchPart) -> &LuaScript {
        match part {
            BatchPart::Count(_) => &self.count,
            BatchPart::Decide(_) => &self.decide,
            BatchPart::Settle(_) => &self.settle,
        }
    }

    /// Returns the command of the second round trip for a part.
    fn second_command(&self, batch: &Batch<'_>, part: &BatchPart, step: SecondStep) -> Cmd {
        match (step, plain_increment(batch, part)) {
            (SecondStep::ExtendExpiry, Some(increment)) => increment.expire_command(self.jitter),
            (SecondStep::AddMissing(missing), Some(increment)) => increment.add_command(missing),
            _ => batch.script_command(part, self.script(part).eval(), self.jitter),
        }
    }

    /// Sends what the first round trip has left open, and completes `results`.
    async fn second_round_trip(
        &self,
        round_trip: RoundTrip<'_>,
        open: &[OpenPart],
        results: &mut [PartResult],
    ) {
        let RoundTrip { batch, parts, .. } = round_trip;
        let mut commands = Vec::with_capacity(open.len());
        for OpenPart { index, step } in open {
            commands.push(self.second_command(batch, &parts[*index], *step));
        }
        let replies = match round_trip.send(commands).await {
            Ok(replies) => replies,
            Err(error) => {
                for OpenPart { index, step } in open {
                    if *step != SecondStep::ExtendExpiry {
                        results[*index] = Err(error.clone());
                    }
                }
                return;
            }
        };
        for (OpenPart { index, step }, reply) in open.iter().zip(replies) {
            match (step, plain_increment(batch, &parts[*index])) {
                // The counter was read in the first round trip.
                (SecondStep::ExtendExpiry, _) => {}
                (SecondStep::AddMissing(missing), Some(increment)) => {
                    results[*index] = Ok(increment.two_step_reply(*missing, &reply));
                }
                _ => results[*index] = Ok(PartReply::Value(reply)),
            }
        }
    }
}

/// The step of a part that needs a second round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecondStep {
    /// Nothing was counted. The script has to be sent with its source.
    SendSource,
    /// The hits were counted, but the counter expires too soon.
    ExtendExpiry,
    /// The counter was negative, which counts as 0, so this number of hits is missing.
    AddMissing(u64),
}

/// A part of a batch that needs a second round trip.
struct OpenPart {
    index: usize,
    step: SecondStep,
}

/// A batch and the connection that it is sent over.
#[derive(Clone, Copy)]
struct RoundTrip<'a> {
    connection: &'a ServerConnection,
    batch: &'a Batch<'a>,
    parts: &'a [BatchPart],
    /// Each command follows an ASKING command.
    asking: bool,
}

impl RoundTrip<'_> {
    /// Sends commands in one write, and returns a reply for each.
    async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, NodeError> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            if self.asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command);
        }
        let replies = self
            .connection
            .send_all(&pipeline)
            .await
            .map_err(|error| self.connection.call_error(&error))?;
        let (received, expected) = (replies.len(), pipeline.len());
        if received != expected {
            return Err(NodeError::failed(format!(
                "there are {received} replies, expected {expected}"
            )));
        }
        if !self.asking {
            return Ok(replies);
        }
        // Every second reply is for a command; the others are for ASKING.
        Ok(replies.into_iter().skip(1).step_by(2).collect())
    }
}

impl BatchExecutor for RedisExecutor {
    async fn execute(
        &self,
        batch: &Batch<'_>,
        parts: &[BatchPart],
        asking: bool,
    ) -> Result<Vec<PartResult>, NodeError> {
        let connection = self.connection.get().await.map_err(NodeError::Unsent)?;
        let round_trip = RoundTrip { connection: &connection, batch, parts, asking };
        let mut commands = Vec::with_capacity(parts.len());
        for part in parts {
            match plain_increment(batch, part) {
                Some(increment) => commands.extend(increment.commands(self.jitter)),
                None => {
                    let evalsha = self.script(part).evalsha();
                    commands.push(batch.script_command(part, evalsha, self.jitter));
                }
            }
        }
        let mut replies = round_trip.send(commands).await?.into_iter();
        let mut results = Vec::with_capacity(parts.len());
        let mut open = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let (reply, second_step) = take_reply(batch, part, &mut replies);
            results.push(Ok(PartReply::Value(reply)));
            if let Some(step) = second_step {
                open.push(OpenPart { index, step });
            }
        }
        if !open.is_empty() {
            self.second_round_trip(round_trip, &open, &mut results).await;
        }
        Ok(results)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connection.get().await?.ping().await
    }
}

/// Takes the reply to `part` from `replies`. Returns it, and the step that is left.
fn take_reply(
    batch: &Batch<'_>,
    part: &BatchPart,
    replies: &mut impl Iterator<Item = Value>,
) -> (Value, Option<SecondStep>) {
    let mut next = || replies.next().unwrap_or(Value::Nil);
    let Some(increment) = plain_increment(batch, part) else {
        let reply = next();
        let is_unknown = is_noscript(&reply);
        return (reply, if is_unknown { Some(SecondStep::SendSource) } else { None });
    };
    let (_set, count, ttl) = (next(), next(), next());
    match increment.parse_replies(&count, &ttl) {
        IncrementReply::Added(before) => (before, None),
        IncrementReply::ExpiresEarly(before) => (before, Some(SecondStep::ExtendExpiry)),
        IncrementReply::WasNegative(missing) => {
            (Value::Int(0), Some(SecondStep::AddMissing(missing)))
        }
        IncrementReply::NotAdded => (count, Some(SecondStep::SendSource)),
        IncrementReply::Failed => (count, None),
    }
}

/// Returns the increment of `part` if it needs commands only, and no script.
fn plain_increment<'a>(batch: &'a Batch<'_>, part: &BatchPart) -> Option<&'a Increment<'a>> {
    let BatchPart::Count(index) = part else { return None };
    let increment = batch.coalesced.increments.get(*index)?;
    if increment.uses_commands() { Some(increment) } else { None }
}

/// Returns whether the server does not know the script, and so has done nothing.
fn is_noscript(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
