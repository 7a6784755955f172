//! Calls that only count in fixed windows, as Envoy's reference service does: the
//! fast path. Any client may INCRBY these counters.

use redis::{Cmd, Script, Value};

use super::{Twin, change, elements, kept, number};
use crate::{
    limit::step::{Answer, Told},
    store::{Charge, GRACE, Outcomes, StoreError},
    time::Timestamp,
};

const SOURCE: &str = include_str!("lua/fixed_window.lua");

pub(super) fn twin() -> Twin {
    Twin { source: SOURCE, script: Script::new(SOURCE), ask, read }
}

/// Whether the script can make `charge`.
pub(super) fn suffices(charge: &Charge) -> bool {
    charge.counts_denied() && charge.counter.ban.is_none() && !charge.all_or_nothing
}

fn ask(call: &mut Cmd, charges: &[Charge], now: Timestamp) {
    call.arg(charges.len());
    for charge in charges {
        call.arg(charge.counter.key.as_bytes());
    }
    call.arg(GRACE.as_millis());
    for charge in charges {
        call.arg(change(charge)).arg(kept(charge, now));
    }
}

fn read(charges: &[Charge], answer: &Value, now: Timestamp) -> Result<Outcomes, StoreError> {
    let outcome = |(charge, count): (&Charge, &Value)| {
        let after = number(count).ok_or_else(|| {
            let key = charge.counter.key.as_bytes().escape_ascii();
            StoreError::Failed(format!("`{key}` is not a counter; expected an integer there"))
        })?;
        let passes = !charge.asks() || after <= u64::from(charge.limit.requests);
        let banned = Timestamp::default();
        Ok(charge.outcome(Answer { passes, banned, told: Told::Count(after) }, true, now))
    };
    charges.iter().zip(elements(answer, charges)?).map(outcome).collect()
}
