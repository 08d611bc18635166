//! Unix time ─► formatted date in UTC, for chat templates with `strftime_now`

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

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats a time as C's `strftime` in the C locale. Unknown conversions are copied.
pub(crate) fn strftime(format: &str, unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400;
    let second = unix_seconds % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = date(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[((days + 4) % 7) as usize];
    let day_of_year = days - days_before(year) + 1;

    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        // `%-d` drops the leading zero.
        let (padded, conversion) = match chars.next() {
            Some('-') => (false, chars.next()),
            other => (true, other),
        };
        let number = |number: u64, width: usize| {
            if padded { format!("{number:0width$}") } else { number.to_string() }
        };
        text += &match conversion {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number((hour + 11) % 12 + 1, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('%') | None => "%".to_owned(),
            Some(other) => format!("%{other}"),
        };
    }
    text
}

/// Days from 1970 to the start of a year.
fn days_before(year: u64) -> u64 {
    let past = year - 1;
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(past) - leap_days(1969)
}

/// Year, month and day, from 1, of a number of days since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let is_leap = days_before(year + 1) - days_before(year) == 366;
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_equal_those_of_date() {
        // From `date -u -d @N +FORMAT`.
        let cases = [
            (0, "%d %b %Y", "01 Jan 1970"),
            (951_782_400, "%A, %-d %B %Y, day %j", "Tuesday, 29 February 2000, day 060"),
            (1_735_689_599, "%F %T %a %I %p", "2024-12-31 23:59:59 Tue 11 PM"),
            (1_735_689_600, "%y-%m-%d %H:%M:%S %Z", "25-01-01 00:00:00 UTC"),
            (4_107_542_400, "%F", "2100-03-01"),
            (0, "100%% %Q %", "100% %Q %"),
        ];
        for (seconds, format, expected) in cases {
            assert_eq!(strftime(format, seconds), expected);
        }
    }
}
