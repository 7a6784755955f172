//! The replies of a server, and checks of their values.

use redis::{RedisError, Value};

use super::node_error::NodeError;
use crate::{limit::Hits, store::StoreError};

pub(super) type PartResult = Result<PartReply, NodeError>;

#[derive(Clone, Debug)]
pub(super) enum PartReply {
    /// The reply of the server, unchanged.
    Value(Value),
    /// A counter below 0 took hits in two steps: the `first` ones counted from 0, the rest
    /// from `before`.
    TwoSteps { first: u64, before: u64 },
}

/// Returns `reply`, or the error that it is.
pub(super) fn non_error(reply: Value) -> Result<Value, NodeError> {
    match reply {
        Value::ServerError(error) => Err(NodeError::from(&RedisError::from(error))),
        reply => Ok(reply),
    }
}

/// The elements of a list with one element for each of `expected` charges.
pub(super) fn elements(reply: Value, expected: usize) -> Result<Vec<Value>, NodeError> {
    let Value::Array(elements) = non_error(reply)? else {
        return Err(StoreError::Failed("the reply is not a list of counters".into()).into());
    };
    if elements.len() != expected {
        let found = elements.len();
        let error = format!("the reply has {found} counters, expected {expected}");
        return Err(StoreError::Failed(error).into());
    }
    Ok(elements)
}

/// The value as a number of hits or a timestamp, if it is within the range of both.
pub(super) fn number(value: &Value) -> Option<u64> {
    let &Value::Int(number) = value else { return None };
    let number = u64::try_from(number).ok()?;
    (number <= Hits::MAX).then_some(number)
}
