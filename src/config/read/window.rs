//! The window of a limit.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use super::{
    super::{
        keys::{self, Home},
        report::quote,
        yaml::{Entry, Map, Value},
    },
    Reader,
    fields::{SECOND, expected, present},
    limit::Block,
};
use crate::limit::{
    Algorithm, Unit, Window,
    window::{Calendar, Phase},
};

const LONGEST: Duration = Duration::from_secs(Window::MAX_SECONDS);

impl<'a> Reader<'a, '_> {
    /// How long hits are counted together, and when that begins.
    pub(super) fn window(
        &mut self,
        block: Block<'_, 'a>,
        algorithm: Option<Algorithm>,
    ) -> Option<Window> {
        let map = block.map;
        let multiplier = self.number(map, Home::RateLimit, "unit_multiplier", 1..=u32::MAX);
        let multiplier = multiplier.and_then(NonZeroU32::new);
        let period = self.duration(map, "period", SECOND..=LONGEST, SECOND);
        let unit = present(map, "unit").map(|it| self.unit(it));
        let calendar = present(map, "calendar").and_then(|it| self.calendar(it, unit.flatten()));
        let phase = self.phase(map);
        if algorithm.is_some_and(|it| !it.info().window) {
            return Some(Window::new(Unit::Second));
        }
        let mut window = match (unit, present(map, "period")) {
            (None, None) => {
                self.lacks_unit(block);
                return None;
            }
            (None, Some(_)) => {
                let seconds = u32::try_from(period?.as_secs()).ok().and_then(NonZeroU32::new)?;
                Window::times(Unit::Second, seconds)?
            }
            (Some(unit), _) => self.units(map, unit?, multiplier)?,
        };
        if let Some(phase) = phase {
            window.phase = phase;
        }
        if let (Phase::Shifted(phase), Some(entry)) = (&window.phase, present(map, "phase"))
            && Duration::from_secs(window.seconds()) <= *phase
        {
            let message = format!(
                "`phase` is not shorter than the window, expected less than {}s",
                window.seconds()
            );
            self.report.mistake(entry.node.place, message, None);
        }
        if let Some(calendar) = calendar {
            window.phase = Phase::Calendar(Arc::new(calendar));
        }
        Some(window)
    }

    /// So many units.
    fn units(
        &mut self,
        map: &Map<'a>,
        unit: Unit,
        multiplier: Option<NonZeroU32>,
    ) -> Option<Window> {
        let window = Window::times(unit, multiplier.unwrap_or(NonZeroU32::MIN));
        if let (None, Some(entry)) = (&window, map.get("unit_multiplier")) {
            let most = Window::MAX_SECONDS / unit.seconds();
            let message = format!(
                "the window is longer than 100 years, expected at most {most} of this unit"
            );
            self.report.mistake(entry.node.place, message, None);
        }
        window
    }

    fn lacks_unit(&mut self, block: Block<'_, 'a>) {
        let place = block.map.get("unit").map_or(block.place, |it| it.place);
        let others =
            if block.only { ", a `period`, or `unlimited: true`" } else { " or a `period`" };
        let message = format!("the limit has no `unit`, expected one{others}");
        self.report.mistake(place, message, Some(units()));
    }

    fn unit(&mut self, entry: &Entry<'a>) -> Option<Unit> {
        let text = self.text_of(&entry.node, "unit", expected(Home::RateLimit, "unit"))?;
        let unit = Unit::from_name(&text);
        if unit.is_none() {
            let near = keys::nearest(&text, Unit::ALL.into_iter().map(Unit::name));
            let help = near.map_or_else(units, |it| format!("did you mean `{it}`? {}", units()));
            let message = format!("{} is no unit of time", quote(&text));
            self.report.mistake(entry.node.place, message, Some(help));
        }
        unit
    }

    fn phase(&mut self, map: &Map<'a>) -> Option<Phase> {
        let node = &present(map, "phase")?.node;
        if matches!(&node.value, Value::Scalar(it) if it.text == "spread") {
            return Some(Phase::Spread);
        }
        let phase = self.duration(map, "phase", Duration::ZERO..=LONGEST, SECOND)?;
        Some(if phase.is_zero() { Phase::Epoch } else { Phase::Shifted(phase) })
    }

    /// What stands under `calendar`, for windows of one `unit`.
    fn calendar(&mut self, entry: &Entry<'a>, unit: Option<Unit>) -> Option<Calendar> {
        let Value::Map(map) = &entry.node.value else {
            self.wrong(&entry.node, "`calendar`", expected(Home::RateLimit, "calendar"));
            return None;
        };
        self.check_keys(map, Home::Calendar);
        let known = [Unit::Day, Unit::Week, Unit::Month];
        if let Some(unit) = unit.filter(|it| !known.contains(it)) {
            let message =
                format!("`calendar` stands beside `unit: {unit}`, expected day, week or month");
            self.report.mistake(entry.place, message, None);
        }
        let last = if unit == Some(Unit::Week) { 7 } else { 28 };
        let first_day = self.number(map, Home::Calendar, "first_day", 1..=last);
        if let (Some(Unit::Day), Some(entry)) = (unit, present(map, "first_day")) {
            let message = "`first_day` stands beside `unit: day`, expected week or month";
            self.report.mistake(entry.place, message, Some("remove it".into()));
        }
        let first_day = first_day.and_then(|it| i8::try_from(it).ok()).unwrap_or(1);
        let Some(name) = present(map, "time_zone") else {
            let message = "the calendar has no `time_zone`, expected one such as Europe/Berlin";
            self.report.mistake(entry.place, message, None);
            return None;
        };
        let expected = expected(Home::Calendar, "time_zone");
        let text = self.text_of(&name.node, "time_zone", expected)?;
        let zone = TimeZone::get(&text).ok().filter(|it| !it.is_unknown());
        if zone.is_none() {
            let message = format!("{} is no time zone, expected {expected}", quote(&text));
            self.report.mistake(name.node.place, message, None);
        }
        Some(Calendar { time_zone: zone?, first_day })
    }
}

fn units() -> String {
    format!("expected {}", expected(Home::RateLimit, "unit"))
}
