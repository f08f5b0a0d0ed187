//! Times as people read and write them: RFC 3339, in UTC.

/// A time in seconds since 1970, with its date.
pub(crate) fn time(unix: u64) -> String {
    format!("{} ({unix})", date(unix))
}

/// A time in seconds since 1970 as RFC 3339 writes it, in UTC.
pub(crate) fn date(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Years are counted from March, so that the day that some years lack is the last; in 400
    // of them there are 146,097 days. The first began 719,468 days before 1970.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A time as users give it: seconds since 1970, or a date in UTC, as in 2026-01-31 or
/// 2026-01-31T12:00:00Z.
///
/// # Errors
/// What was expected.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    if let Ok(unix) = text.parse() {
        return Ok(unix);
    }
    let wrong = || {
        format!(
            "\"{text}\" is not a time: expected seconds since 1970, or a date as in 2026-01-31 or \
             2026-01-31T12:00:00Z"
        )
    };
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let number = |at: std::ops::Range<usize>| {
        let digits = full.get(at).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|d| d.parse::<u64>().ok()).ok_or_else(wrong)
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days from March of the year 0 on, as in [`date`].
    let before = year.checked_sub(1).ok_or_else(wrong)?;
    let (years, months) = if month > 2 { (year, month - 3) } else { (before, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day;
    let days = days.checked_sub(719_469).ok_or_else(wrong)?;
    let unix = days * 86_400 + hour * 3600 + minute * 60 + second;
    // What is not a day of the calendar, or not written so, comes out as another.
    if date(unix) == full { Ok(unix) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `date -u -d @N +%FT%TZ`.
    const KNOWN: [(u64, &str); 8] = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_709_164_800, "2024-02-29T00:00:00Z"),
        (1_750_000_000, "2025-06-15T15:06:40Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (4_294_967_295, "2106-02-07T06:28:15Z"),
    ];

    #[test]
    fn dates_are_those_of_the_calendar_and_are_read_back() {
        for (unix, text) in KNOWN {
            assert_eq!(date(unix), text);
            assert_eq!(parse(text), Ok(unix));
            assert_eq!(parse(&unix.to_string()), Ok(unix));
        }
        assert_eq!(parse("2025-06-15"), Ok(1_750_000_000 - 54_400));
        assert_eq!(time(0), "1970-01-01T00:00:00Z (0)");
        date(u64::MAX);
        for wrong in [
            "",
            "now",
            "2025-02-29",
            "2025-13-01",
            "2025-00-01",
            "0000-01-01",
            "1969-12-31",
            "-1",
            "2025-06-15T24:00:00Z",
            "2025-06-15 15:06:40",
            "2025-06-15T15:06:40+02:00",
        ] {
            assert!(parse(wrong).unwrap_err().contains("2026-01-31"), "{wrong}");
        }
    }
}
