//! Times and ages as they are typed and shown.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

const WANTED: &str = "write it like 30s, 5m, 1h or 2d";

/// A time as it is shown: to the millisecond, in UTC.
pub(crate) fn shown(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// How long ago, in one unit: `5ms`, `90s`, `3m`, `26h`, `9d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    length(now.duration_since(since))
}

/// As [`age`], for a length of time; a negative one is none.
pub(crate) fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    match seconds {
        0 => format!("{}ms", length.subsec_millis().max(0)),
        1..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Reads `30s`, `5m`, `1h` or `2d`; a day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| WANTED.to_owned())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| WANTED.to_owned())?;
    Duration::try_from(duration).map_err(|_| "a time cannot be negative".to_owned())
}

/// Reads a time, or an age such as `1h` for an hour ago.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wanted = || "write it like 2026-01-31T12:00:00Z, or 24h for a day ago".to_owned();
    let ago = duration(text).map_err(|_| wanted())?;
    Timestamp::now().checked_sub(ago).map_err(|_| wanted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit_and_two_digits_where_it_can() {
        for (millis, shown) in [
            (-5, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (119_999, "119s"),
            (120_000, "2m"),
            (7_199_999, "119m"),
            (7_200_000, "2h"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(length(SignedDuration::from_millis(millis)), shown);
        }
        assert_eq!(shown(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        assert_eq!(moment("1970-01-01T00:00:00Z"), Ok(Timestamp::UNIX_EPOCH));
        assert!(moment("1h").unwrap() < Timestamp::now());
        for bad in ["", "yesterday", "-1h"] {
            assert!(moment(bad).unwrap_err().contains("24h"), "{bad}");
        }
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1d 2h"), Ok(Duration::from_secs(26 * 3_600)));
        for bad in ["5", "1mo", "-1d", "soon"] {
            duration(bad).unwrap_err();
        }
    }
}
