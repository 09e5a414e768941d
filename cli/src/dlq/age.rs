//! How long ago something was, in as few characters as it takes.

use jiff::Timestamp;

/// The largest unit that counts: `40s`, `12m`, `5h`, `3d`. What a clock that is fast has written is 0 s old.
pub(super) fn age(at: Timestamp) -> String {
    let seconds = Timestamp::now().as_second().saturating_sub(at.as_second()).max(0);
    short(seconds)
}

fn short(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let cases = [(0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (7_200, "2h"), (172_800, "2d")];
        for (seconds, text) in cases {
            assert_eq!(short(seconds), text);
        }
        assert_eq!(age(Timestamp::MAX), "0s");
    }
}
