//! A number of workers, or a range of them, as it is typed: `4` or `0..8`.

use std::str::FromStr;

use orderfleet_operations::scaling::Bounds;

/// Most workers that anybody may ask for.
const MOST: u16 = 1_000;

/// Fewest and most workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workers(pub(crate) Bounds);

impl Workers {
    /// Whether there is anything to decide.
    pub(crate) fn is_range(self) -> bool {
        self.0.min < self.0.max
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("a number, or a range such as 0..8; at most {MOST}");
        let number = |text: &str| text.parse().ok().filter(|number| *number <= MOST).ok_or_else(wanted);
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min)?, number(max)?),
            None => (number(text)?, number(text)?),
        };
        if min > max {
            return Err(format!("{min} is more than {max}"));
        }
        Ok(Self(Bounds { min, max }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_fixed_and_a_range_is_not() {
        let read = |text: &str| text.parse::<Workers>();
        assert_eq!(read("4"), Ok(Workers(Bounds { min: 4, max: 4 })));
        assert_eq!(read("0..8"), Ok(Workers(Bounds { min: 0, max: 8 })));
        assert!(read("0..8").unwrap().is_range() && !read("3..3").unwrap().is_range());
        for nonsense in ["", "..", "8..0", "-1", "0..1001", "0...8", "many"] {
            read(nonsense).unwrap_err();
        }
    }
}
