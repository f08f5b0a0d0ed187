//! Spans of time as users write them.

use std::str::FromStr;

/// A span in whole seconds: digits and `s`, `m`, `h`, `d` or `w`, as in `30m`. At least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) seconds: u64,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a time as in 45s, 30m, 12h, 7d or 2w");
        let unit = text.chars().last().ok_or_else(wrong)?;
        let each = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let digits = text.get(..text.len() - 1).unwrap_or_default();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let seconds = count.checked_mul(each).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
        Ok(Self { seconds })
    }
}

/// So many seconds in words, in the two largest units that fit.
pub(super) fn in_words(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read_and_said() {
        let seconds = |text: &str| text.parse::<Span>().map(|span| span.seconds).ok();
        assert_eq!(
            ["1s", "2m", "3h", "1d", "2w"].map(seconds),
            [1, 120, 10_800, 86_400, 1_209_600].map(Some)
        );
        for wrong in ["", "s", "0s", "5", "5x", "-1s", "+1s", "1.5h", "99999999999999999999s", "1ä"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert_eq!(seconds(&format!("{}w", u64::MAX)), None, "more than there are seconds");
        let said = [59, 61, 3_661, 90_061].map(in_words);
        assert_eq!(said, ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,8}", count in 1u64..1 << 40) {
            let _ = text.parse::<Span>();
            prop_assert_eq!(format!("{count}s").parse(), Ok(Span { seconds: count }));
        }
    }
}
