//! A point in time as a date and a time of day, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A date and a time of day.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Since 1970-01-01 00:00:00.
    pub(super) since_epoch: Duration,
    pub(super) year: u64,
    /// 1 to 12.
    pub(super) month: usize,
    /// 1 to 31.
    pub(super) day: u64,
    /// 0 is Sunday.
    pub(super) weekday: usize,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
    /// 0 to 999 999 999.
    pub(super) nanosecond: u32,
}

impl Clock {
    /// A time before 1970 is taken for its beginning.
    pub(super) fn new(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs();
        let days = seconds / 86_400;
        let (year, month, day) = date(days);
        Clock {
            since_epoch,
            year,
            month,
            day,
            weekday: ((days + 4) % 7) as usize,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            nanosecond: since_epoch.subsec_nanos(),
        }
    }

    /// The hour on a clock face, 1 to 12.
    pub(super) fn hour12(&self) -> u64 {
        (self.hour + 11) % 12 + 1
    }

    pub(super) fn am_pm(&self) -> &'static str {
        if self.hour < 12 { "AM" } else { "PM" }
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, which puts the
/// leap day last and makes the months a regular pattern of 153 days in five.
fn date(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Clock {
        Clock::new(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, (1970, 1, 1, 4)),
            (951_782_400, (2000, 2, 29, 2)),
            (1_709_164_799, (2024, 2, 28, 3)),
            (1_709_251_200, (2024, 3, 1, 5)),
            (1_795_395_641, (2026, 11, 23, 1)),
            (4_107_542_400, (2100, 3, 1, 1)),
        ];
        for (seconds, expected) in cases {
            let clock = at(seconds);
            assert_eq!((clock.year, clock.month, clock.day, clock.weekday), expected, "{seconds}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut previous = date(0);
        for days in 1..80_000 {
            let today = date(days);
            let next_day = today.2 == previous.2 + 1 && (today.0, today.1) == (previous.0, previous.1);
            let next_month = today.2 == 1 && today.1 == previous.1 % 12 + 1;
            assert!(next_day || next_month, "{previous:?} {today:?}");
            previous = today;
        }
        assert_eq!(previous, (2189, 1, 11));
    }

    #[test]
    fn the_time_of_day_has_24_or_12_hours() {
        let clock = at(1_795_395_641);
        assert_eq!((clock.hour, clock.minute, clock.second), (1, 0, 41));
        let faces = [0, 1, 11, 12, 13, 23].map(|hour| (at(hour * 3600).hour12(), at(hour * 3600).am_pm()));
        assert_eq!(faces, [(12, "AM"), (1, "AM"), (11, "AM"), (12, "PM"), (1, "PM"), (11, "PM")]);
    }

    #[test]
    fn a_time_before_the_epoch_is_the_epoch() {
        assert_eq!(Clock::new(UNIX_EPOCH - Duration::from_secs(1)), at(0));
    }
}
