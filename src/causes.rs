//! Errors together with their sources.

use std::{error::Error, iter};

/// The error, its source, and so on to the root cause.
pub fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// The texts of the error and of all its sources, such as `cannot connect: timed out`.
pub fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for source in chain(error).skip(1) {
        text += &format!(": {source}");
    }
    text
}
