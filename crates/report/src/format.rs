//! Numbers for people.

/// A number with about four digits: `0.0951`, `12.4`, `1,200`, `2e-5`.
pub fn format_number(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return "–".into();
    }
    if magnitude == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e7).contains(&magnitude) {
        return trim_zeros(&format!("{value:.2e}"));
    }
    let digits_before = magnitude.log10().floor() as i32 + 1;
    let decimals = (4 - digits_before.max(0)).clamp(0, 4) as usize;
    if magnitude >= 1e4 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", format_count(magnitude.round() as u64));
    }
    trim_zeros(&format!("{value:.decimals$}"))
}

/// Removes the zeros at the end of the fraction, also before an exponent.
fn trim_zeros(text: &str) -> String {
    let (digits, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{digits}{exponent}")
}

/// A whole number with separators: `1,234,567`.
pub fn format_count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes: `512 B`, `1.5 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    let (unit, name) = byte_unit(bytes as f64);
    let value = bytes as f64 / unit;
    match value {
        _ if unit == 1.0 => format!("{bytes} B"),
        ..10.0 => format!("{value:.2} {name}"),
        ..100.0 => format!("{value:.1} {name}"),
        _ => format!("{value:.0} {name}"),
    }
}

/// The largest binary unit that is not larger than a number of bytes, and its name.
pub(crate) fn byte_unit(bytes: f64) -> (f64, &'static str) {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let units = units.map(|(unit, name)| (unit as f64, name));
    units.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1.0, "B"))
}

/// A duration: `12 s`, `3:20 min`, `2:05 h`.
pub fn format_seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    if seconds < 1.0 {
        return format!("{} s", format_number((seconds * 1000.0).round() / 1000.0));
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        3600..86400 => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_four_digits() {
        let cases = [0.0, 0.095_12, 3.829_81, 46.05, 450.0, 1_234.5, 56_789.2, 2e-5, -0.18, 1.5e9];
        let expected =
            ["0", "0.0951", "3.83", "46.05", "450", "1234", "56,789", "2e-5", "-0.18", "1.5e9"];
        assert_eq!(cases.map(format_number), expected);
        assert_eq!(format_number(f64::NAN), "–");
    }

    #[test]
    fn counts_have_separators() {
        assert_eq!([7, 1_000, 1_234_567].map(format_count), ["7", "1,000", "1,234,567"]);
    }

    #[test]
    fn bytes_and_durations_have_units() {
        assert_eq!([512, 3 << 29, 755 << 20].map(format_bytes), ["512 B", "1.50 GiB", "755 MiB"]);
        let durations = [1.25, 12.0, 200.0, 7500.0, 90_000.0, f64::MAX].map(format_seconds);
        assert_eq!(durations[..5], ["1.2 s", "12 s", "3:20 min", "2:05 h", "1 d 1 h"]);
        assert!(durations[5].ends_with(" h"));
    }
}
