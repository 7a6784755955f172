//! Reads the window of a limit.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    super::{
        excerpt::quote,
        keys::{self, KeyContext},
        yaml::{Map, MapEntry, YamlValue},
    },
    block::LimitBlock,
    reader::{SECOND, SourceReader, expected_value, is_misspelt, non_null},
};
use crate::limit::{Algorithm, Unit, Window, window::Phase};

const MAX_WINDOW: Duration = Duration::from_secs(Window::MAX_SECONDS);

impl<'a> SourceReader<'a, '_> {
    /// The window of a limit; `None` if it is missing or has an error, which is
    /// reported.
    pub(super) fn window(
        &mut self,
        block: LimitBlock<'_, 'a>,
        algorithm: Option<Algorithm>,
    ) -> Option<Window> {
        let map = block.map;
        let multiplier = self.number(map, KeyContext::RateLimit, "unit_multiplier", 1..=u32::MAX);
        let period = self.duration(map, "period", SECOND..=MAX_WINDOW, SECOND);
        let unit_entry = non_null(map, "unit");
        let unit = match unit_entry {
            Some(entry) => self.unit(entry),
            None => None,
        };
        let calendar = match non_null(map, "calendar") {
            Some(entry) => self.calendar(entry, unit),
            None => None,
        };
        let phase = self.phase(map);
        if algorithm.is_some_and(|algorithm| !algorithm.info().window) {
            return Some(Window::new(Unit::Second));
        }
        let mut window = if unit_entry.is_some() {
            self.window_of_units(map, unit?, multiplier)?
        } else if non_null(map, "period").is_some() {
            let seconds = u32::try_from(period?.as_secs()).ok()?;
            Window::times(Unit::Second, NonZeroU32::new(seconds)?)?
        } else {
            self.report_missing_unit(block);
            return None;
        };
        if let Some(phase) = phase {
            self.check_phase(map, &phase, &window);
            window.phase = phase;
        }
        if let Some(calendar) = calendar {
            window.phase = Phase::Calendar(Arc::new(calendar));
        }
        Some(window)
    }

    fn check_phase(&mut self, map: &Map<'a>, phase: &Phase, window: &Window) {
        if let (Phase::Shifted(shift), Some(entry)) = (phase, non_null(map, "phase"))
            && *shift >= Duration::from_secs(window.seconds())
        {
            let seconds = window.seconds();
            let message =
                format!("`phase` is not shorter than the window, expected less than {seconds}s");
            self.sink.error(entry.node.location, message);
        }
    }

    fn window_of_units(
        &mut self,
        map: &Map<'a>,
        unit: Unit,
        multiplier: Option<u32>,
    ) -> Option<Window> {
        let multiplier = multiplier.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let window = Window::times(unit, multiplier);
        if let (None, Some(entry)) = (&window, map.get("unit_multiplier")) {
            let max = Window::MAX_SECONDS / unit.seconds();
            let message =
                format!("the window is longer than 100 years, expected at most {max} of this unit");
            self.sink.error(entry.node.location, message);
        }
        window
    }

    fn report_missing_unit(&mut self, block: LimitBlock<'_, 'a>) {
        for name in ["unit", "period", "unlimited"] {
            if is_misspelt(block.map, KeyContext::RateLimit, name) {
                return;
            }
        }
        let location = block.map.get("unit").map_or(block.location, |entry| entry.key_location);
        let alternatives =
            if block.is_single { ", a `period`, or `unlimited: true`" } else { " or a `period`" };
        let message = format!("the limit has no `unit`, expected one{alternatives}");
        self.sink.error_with_help(location, message, expected_units());
    }

    fn unit(&mut self, entry: &MapEntry<'a>) -> Option<Unit> {
        let expected = expected_value(KeyContext::RateLimit, "unit");
        let text = self.text_of(&entry.node, "unit", expected)?;
        let unit = Unit::from_name(&text);
        if unit.is_none() {
            let help = match keys::nearest(&text, &Unit::ALL.map(Unit::name)) {
                Some(similar) => format!("did you mean `{similar}`? {}", expected_units()),
                None => expected_units(),
            };
            let message = format!("{} is not a unit of time", quote(&text));
            self.sink.error_with_help(entry.node.location, message, help);
        }
        unit
    }

    fn phase(&mut self, map: &Map<'a>) -> Option<Phase> {
        let node = &non_null(map, "phase")?.node;
        if matches!(&node.value, YamlValue::Scalar(scalar) if scalar.text == "spread") {
            return Some(Phase::Spread);
        }
        let shift = self.duration(map, "phase", Duration::ZERO..=MAX_WINDOW, SECOND)?;
        Some(if shift.is_zero() { Phase::Epoch } else { Phase::Shifted(shift) })
    }
}

fn expected_units() -> String {
    format!("expected {}", expected_value(KeyContext::RateLimit, "unit"))
}
