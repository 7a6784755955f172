//! The scripts, sent to a server.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::{
    Twin,
    batch::Wire,
    charge,
    connection::{Connection, Link},
    fixed_window,
    jitter::Jitter,
    line::failed,
    node::NodeError,
    parts::{Batch, Part},
    settle,
};
use crate::store::StoreError;

/// A connection over which scripts are run.
#[derive(Debug)]
pub(super) struct RedisWire {
    connection: Arc<Connection>,
    jitter: Jitter,
    /// For fixed windows.
    count: Twin,
    /// For all else.
    decide: Twin,
    settle: Twin,
}

impl RedisWire {
    pub(super) fn new(connection: Arc<Connection>, jitter: Jitter) -> Self {
        Self {
            connection,
            jitter,
            count: Twin::new(fixed_window::SOURCE.to_owned()),
            decide: Twin::new(charge::source()),
            settle: Twin::new(settle::source()),
        }
    }

    fn twin(&self, part: &Part) -> &Twin {
        match part {
            Part::Count(_) => &self.count,
            Part::Decide(_) => &self.decide,
            Part::Settle(_) => &self.settle,
        }
    }
}

impl Wire for RedisWire {
    async fn ask(
        &self,
        batch: &Batch<'_>,
        parts: &[Part],
        asking: bool,
    ) -> Result<Vec<Value>, NodeError> {
        let link = self.connection.link().await.map_err(NodeError::Unsent)?;
        let by_name = parts.iter().map(|it| batch.ask(it, self.twin(it).by_name(), self.jitter));
        let mut answers = send(&link, by_name, asking).await?;
        // A server that does not know a script has done nothing.
        let unknown: Vec<_> = (0..parts.len()).filter(|it| is_unknown(&answers[*it])).collect();
        if !unknown.is_empty() {
            let whole = unknown.iter().map(|it| &parts[*it]);
            let whole = whole.map(|it| batch.ask(it, self.twin(it).whole(), self.jitter));
            let again = send(&link, whole, asking).await?;
            for (place, answer) in unknown.into_iter().zip(again) {
                answers[place] = answer;
            }
        }
        Ok(answers)
    }

    async fn heard(&self) -> Result<(), StoreError> {
        self.connection.link().await?.ping().await
    }
}

/// The answers to `commands`, sent together.
async fn send(
    link: &Link,
    commands: impl Iterator<Item = Cmd>,
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
        return Err(failed(format!("there are {found} answers, expected {expected}")));
    }
    let each = 1 + usize::from(asking);
    Ok(answers.into_iter().skip(each - 1).step_by(each).collect())
}

fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
