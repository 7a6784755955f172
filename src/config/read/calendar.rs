//! Reads the `calendar` of a limit.

use jiff::tz::TimeZone;

use super::{
    super::{
        excerpt::quote,
        keys::KeyContext,
        yaml::{Map, MapEntry, YamlValue},
    },
    reader::{SourceReader, expected_value, non_null},
};
use crate::limit::{Unit, window::Calendar};

impl<'a> SourceReader<'a, '_> {
    /// Reads the calendar for windows of one `unit`.
    pub(super) fn calendar(
        &mut self,
        entry: &MapEntry<'a>,
        unit: Option<Unit>,
    ) -> Option<Calendar> {
        let YamlValue::Map(map) = &entry.node.value else {
            let expected = expected_value(KeyContext::RateLimit, "calendar");
            self.unexpected(&entry.node, "`calendar`", expected);
            return None;
        };
        self.check_keys(map, KeyContext::Calendar);
        if let Some(unit) = unit
            && !matches!(unit, Unit::Day | Unit::Week | Unit::Month)
        {
            let message =
                format!("`calendar` is combined with `unit: {unit}`, expected day, week or month");
            self.sink.error(entry.key_location, message);
        }
        let first_day = self.first_day(map, unit);
        let time_zone = self.time_zone(map, entry)?;
        Some(Calendar { time_zone, first_day })
    }

    fn first_day(&mut self, map: &Map<'a>, unit: Option<Unit>) -> i8 {
        let last = if unit == Some(Unit::Week) { 7 } else { 28 };
        let first_day = self.number(map, KeyContext::Calendar, "first_day", 1..=last);
        if let (Some(Unit::Day), Some(entry)) = (unit, non_null(map, "first_day")) {
            let message = "`first_day` is combined with `unit: day`, expected week or month";
            self.sink.error_with_help(entry.key_location, message, "remove it");
        }
        first_day.and_then(|day| i8::try_from(day).ok()).unwrap_or(1)
    }

    fn time_zone(&mut self, map: &Map<'a>, calendar: &MapEntry<'a>) -> Option<TimeZone> {
        let Some(entry) = non_null(map, "time_zone") else {
            let message = "the calendar has no `time_zone`, expected one such as Europe/Berlin";
            self.sink.error(calendar.key_location, message);
            return None;
        };
        let expected = expected_value(KeyContext::Calendar, "time_zone");
        let name = self.text_of(&entry.node, "time_zone", expected)?;
        let time_zone = self.time_zones.get(&name);
        if time_zone.is_none() {
            let message = format!("{} is not a time zone, expected {expected}", quote(&name));
            self.sink.error(entry.node.location, message);
        }
        time_zone
    }
}
