//! A point in time as a date and a time of day, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From January on.
const MONTHS: [&str; 12] = [
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

/// From Sunday on.
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A date and a time of day. A time before 1970 is taken for its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UtcTime {
    /// Since 1970-01-01 00:00:00.
    pub(crate) since_epoch: Duration,
    pub(crate) year: u64,
    /// 1 to 12.
    pub(crate) month: u64,
    /// 1 to 31.
    pub(crate) day: u64,
    /// 0 is the first of January.
    pub(crate) day_of_year: u64,
    /// 0 is Sunday.
    pub(crate) weekday: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
    /// 0 to 999 999 999.
    pub(crate) nanosecond: u32,
}

impl UtcTime {
    pub(crate) fn new(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs();
        let days = seconds / 86_400;
        let (year, month, day) = date(days);
        UtcTime {
            since_epoch,
            year,
            month,
            day,
            day_of_year: day_of_year(year, month, day),
            weekday: (days + 4) % 7,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            nanosecond: since_epoch.subsec_nanos(),
        }
    }

    /// The hour on a clock face, 1 to 12.
    pub(crate) fn hour12(&self) -> u64 {
        (self.hour + 11) % 12 + 1
    }

    pub(crate) fn am_pm(&self) -> &'static str {
        if self.hour < 12 { "AM" } else { "PM" }
    }

    pub(crate) fn month_name(&self) -> &'static str {
        MONTHS[self.month as usize - 1]
    }

    pub(crate) fn weekday_name(&self) -> &'static str {
        WEEKDAYS[self.weekday as usize]
    }

    /// The week of the year; the days before the first `first_weekday` are week 0.
    pub(crate) fn week_from(&self, first_weekday: u64) -> u64 {
        (self.day_of_year + 7 - (self.weekday + 7 - first_weekday) % 7) / 7
    }

    /// Year and week of ISO 8601: the week, from Monday on, belongs to the year that has its Thursday.
    pub(crate) fn iso_week(&self) -> (u64, u64) {
        let since_monday = (self.weekday + 6) % 7;
        // Moved by a week, so that it cannot fall below zero.
        let thursday = self.day_of_year + 7 + 3 - since_monday;
        if thursday < 7 {
            return (self.year - 1, (days_of(self.year - 1) + thursday - 7) / 7 + 1);
        }
        let thursday = thursday - 7;
        match thursday >= days_of(self.year) {
            true => (self.year + 1, 1),
            false => (self.year, thursday / 7 + 1),
        }
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn day_of_year(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    BEFORE[month as usize - 1] + day - 1 + u64::from(month > 2 && is_leap(year))
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, which puts the
/// leap day last and makes the months a regular pattern of 153 days in five.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UtcTime {
        UtcTime::new(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, (1970, 1, 1, 4, 0)),
            (951_782_400, (2000, 2, 29, 2, 59)),
            (1_709_164_799, (2024, 2, 28, 3, 58)),
            (1_709_251_200, (2024, 3, 1, 5, 60)),
            (1_795_395_641, (2026, 11, 23, 1, 326)),
            (4_107_542_400, (2100, 3, 1, 1, 59)),
        ];
        for (seconds, expected) in cases {
            let t = at(seconds);
            assert_eq!((t.year, t.month, t.day, t.weekday, t.day_of_year), expected, "{seconds}");
        }
        let t = at(1_795_395_641);
        assert_eq!((t.hour, t.hour12(), t.minute, t.second), (1, 1, 0, 41));
        assert_eq!((at(0).hour12(), at(12 * 3600).hour12(), at(23 * 3600).hour12()), (12, 12, 11));
    }

    #[test]
    fn weeks_are_counted_in_three_ways() {
        // Seconds, %U, %W, %G and %V as date(1) prints them.
        let cases = [
            (1_795_401_122, 47, 47, (2026, 48)),
            (1_609_459_200, 0, 0, (2020, 53)),
            (1_609_718_400, 1, 1, (2021, 1)),
            (1_735_603_200, 52, 53, (2025, 1)),
            (1_704_067_200, 0, 1, (2024, 1)),
            (1_672_531_200, 1, 0, (2022, 52)),
        ];
        for (seconds, from_sunday, from_monday, iso) in cases {
            let t = at(seconds);
            let weeks = (t.week_from(0), t.week_from(1), t.iso_week());
            assert_eq!(weeks, (from_sunday, from_monday, iso), "{seconds}");
        }
    }

    #[test]
    fn a_time_before_the_epoch_is_the_epoch() {
        assert_eq!(UtcTime::new(UNIX_EPOCH - Duration::from_secs(1)), at(0));
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
        let faces = [0, 1, 11, 12, 13, 23].map(|hour| (at(hour * 3600).hour12(), at(hour * 3600).am_pm()));
        assert_eq!(faces, [(12, "AM"), (1, "AM"), (11, "AM"), (12, "PM"), (1, "PM"), (11, "PM")]);
    }
}
