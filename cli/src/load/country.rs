//! Country names as shops write them → ISO 3166-1 alpha-2.

use std::str::FromStr as _;

/// Names that are in use but in no list of countries.
const SHOP_NAMES: [(&str, &str); 4] = [("EIRE", "IE"), ("RSA", "ZA"), ("UK", "GB"), ("Korea", "KR")];

/// The alpha-2 code of a country's name or code; `None` for what is no country ("Channel Islands",
/// "European Community", "Unspecified").
pub(crate) fn alpha2(name: &str) -> Option<&'static str> {
    let shop_name = SHOP_NAMES.iter().find(|(shop, _)| shop.eq_ignore_ascii_case(name));
    if let Some((_, code)) = shop_name {
        return Some(code);
    }
    let compact: String = name.chars().filter(|c| !c.is_whitespace()).collect();
    celes::Country::from_str(&compact).ok().map(|country| country.alpha2)
}

#[cfg(test)]
mod tests {
    use super::alpha2;

    #[test]
    fn every_country_a_uk_shop_ships_to_has_its_code() {
        let expected = [
            ("Australia", "AU"),
            ("Austria", "AT"),
            ("Bahrain", "BH"),
            ("Belgium", "BE"),
            ("Bermuda", "BM"),
            ("Brazil", "BR"),
            ("Canada", "CA"),
            ("Cyprus", "CY"),
            ("Czech Republic", "CZ"),
            ("Denmark", "DK"),
            ("EIRE", "IE"),
            ("Finland", "FI"),
            ("France", "FR"),
            ("Germany", "DE"),
            ("Greece", "GR"),
            ("Hong Kong", "HK"),
            ("Iceland", "IS"),
            ("Israel", "IL"),
            ("Italy", "IT"),
            ("Japan", "JP"),
            ("Korea", "KR"),
            ("Lebanon", "LB"),
            ("Lithuania", "LT"),
            ("Malta", "MT"),
            ("Netherlands", "NL"),
            ("Nigeria", "NG"),
            ("Norway", "NO"),
            ("Poland", "PL"),
            ("Portugal", "PT"),
            ("RSA", "ZA"),
            ("Saudi Arabia", "SA"),
            ("Singapore", "SG"),
            ("Spain", "ES"),
            ("Sweden", "SE"),
            ("Switzerland", "CH"),
            ("Thailand", "TH"),
            ("USA", "US"),
            ("United Arab Emirates", "AE"),
            ("United Kingdom", "GB"),
        ];
        for (name, code) in expected {
            assert_eq!(alpha2(name), Some(code), "{name}");
        }
    }

    #[test]
    fn what_is_no_country_has_no_code() {
        for name in ["Channel Islands", "European Community", "Unspecified", "West Indies", ""] {
            assert_eq!(alpha2(name), None, "{name}");
        }
    }
}
