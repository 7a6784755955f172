//! Commands and scripts, sent to a server.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::{
    batch::{Batch, BatchPart, PartReply, PartResult},
    coalesced::{Increment, IncrementReply},
    connection::{Connection, Link},
    count, decide,
    executor::BatchExecutor,
    jitter::Jitter,
    lua_script::LuaScript,
    node_error::NodeError,
    settle,
};
use crate::store::StoreError;

/// A connection over which scripts are run.
#[derive(Debug)]
pub(super) struct RedisWire {
    connection: Arc<Connection>,
    jitter: Jitter,
    /// For fixed windows.
    count: LuaScript,
    /// For all else.
    decide: LuaScript,
    settle: LuaScript,
}

impl RedisWire {
    pub(super) fn new(connection: Arc<Connection>, jitter: Jitter) -> Self {
        Self {
            connection,
            jitter,
            count: LuaScript::new(count::SOURCE.to_owned()),
            decide: LuaScript::new(decide::source()),
            settle: LuaScript::new(settle::source()),
        }
    }

    /// Takes the answer for `part` out of `found`, and says what else there is to do.
    fn understand(
        batch: &Batch<'_>,
        part: &BatchPart,
        found: &mut impl Iterator<Item = Value>,
    ) -> (Value, Option<Again>) {
        let mut next = || found.next().unwrap_or(Value::Nil);
        let Some(sum) = added(batch, part) else {
            let answer = next();
            // A server that does not know a script has done nothing.
            let unknown = is_unknown(&answer).then_some(Again::ByScript);
            return (answer, unknown);
        };
        let (_made, count, ttl) = (next(), next(), next());
        match sum.found(&count, &ttl) {
            IncrementReply::Before(before) => (before, None),
            IncrementReply::Shortly(before) => (before, Some(Again::Keep)),
            IncrementReply::Partly(missing) => (Value::Int(0), Some(Again::Add(missing))),
            IncrementReply::Nothing => (count, Some(Again::ByScript)),
            IncrementReply::Failed => (count, None),
        }
    }

    fn script(&self, part: &BatchPart) -> &LuaScript {
        match part {
            BatchPart::Count(_) => &self.count,
            BatchPart::Decide(_) => &self.decide,
            BatchPart::Settle(_) => &self.settle,
        }
    }

    /// Does what the first round trip has left to do.
    async fn once_more(
        &self,
        link: &Link,
        (batch, parts): (&Batch<'_>, &[BatchPart]),
        asking: bool,
        again: &[(usize, Again)],
    ) -> Result<Vec<Value>, NodeError> {
        let mut commands = Vec::with_capacity(again.len());
        for &(place, step) in again {
            let part = &parts[place];
            commands.push(match (step, added(batch, part)) {
                (Again::Keep, Some(sum)) => sum.keep(self.jitter),
                (Again::Add(missing), Some(sum)) => sum.add(missing),
                _ => batch.command(part, self.script(part).eval(), self.jitter),
            });
        }
        send(link, commands, asking).await
    }
}

/// What is to be done after the first round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Nothing is made yet.
    ByScript,
    /// The counter is not kept long enough.
    Keep,
    /// So many hits are missing, as the counter was below 0.
    Add(u64),
}

impl BatchExecutor for RedisWire {
    async fn execute(
        &self,
        batch: &Batch<'_>,
        parts: &[BatchPart],
        asking: bool,
    ) -> Result<Vec<PartResult>, NodeError> {
        let link = self.connection.link().await.map_err(NodeError::Unsent)?;
        let mut commands = Vec::with_capacity(parts.len());
        for part in parts {
            match added(batch, part).map(|it| it.commands(self.jitter)) {
                Some(several) => commands.extend(several),
                None => {
                    commands.push(batch.command(part, self.script(part).evalsha(), self.jitter))
                }
            }
        }
        let mut found = send(&link, commands, asking).await?.into_iter();
        let mut answers = Vec::with_capacity(parts.len());
        let mut again = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let (answer, step) = Self::understand(batch, part, &mut found);
            answers.push(Ok(PartReply::Value(answer)));
            again.extend(step.map(|it| (place, it)));
        }
        if !again.is_empty() {
            let found = self.once_more(&link, (batch, parts), asking, &again).await;
            for (at, (place, step)) in again.into_iter().enumerate() {
                let found = || match &found {
                    Ok(found) => Ok(found.get(at).cloned().unwrap_or(Value::Nil)),
                    Err(error) => Err(error.clone()),
                };
                match (step, added(batch, &parts[place])) {
                    // It has its answer already.
                    (Again::Keep, _) => {}
                    (Again::Add(missing), Some(sum)) => {
                        answers[place] = found().map(|it| sum.added_late(missing, &it));
                    }
                    _ => answers[place] = found().map(PartReply::Value),
                }
            }
        }
        Ok(answers)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connection.link().await?.ping().await
    }
}

/// The sum that `part` is, if commands add it, and no script.
fn added<'a>(batch: &'a Batch<'_>, part: &BatchPart) -> Option<&'a Increment<'a>> {
    match part {
        BatchPart::Count(sum) => batch.sums.charges.get(*sum).filter(|it| it.is_added()),
        BatchPart::Decide(_) | BatchPart::Settle(_) => None,
    }
}

/// The answers to `commands`, sent together.
async fn send(
    link: &Link,
    commands: impl IntoIterator<Item = Cmd>,
    asking: bool,
) -> Result<Vec<Value>, NodeError> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        if asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command);
    }
    let answers = link.send_all(&pipeline).await.map_err(|error| NodeError::from(&error))?;
    if answers.len() != pipeline.len() {
        let (found, expected) = (answers.len(), pipeline.len());
        return Err(NodeError::failed(format!("there are {found} answers, expected {expected}")));
    }
    let each = 1 + usize::from(asking);
    Ok(answers.into_iter().skip(each - 1).step_by(each).collect())
}

fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
