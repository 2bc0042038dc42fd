//! Numbers that compare by value: decimal, exact to thirty significant digits, ordered as plain integers.

/// A decimal number as an integer of the same order.
///
/// The bits, from the top: one for "not negative", 27 for the biased decimal exponent, 100 for thirty significant digits,
/// aligned to the left. A negative number is the complement of its absolute value. So equality is equality of value
/// (`300`, `300.0` and `3.0e2` are one), and the order of the integers is the order of the numbers.
///
/// Kept in halves, the high one first: what holds a number is smaller so than with the alignment of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(u64, u64);

/// How many significant digits count; further ones are cut off.
pub(crate) const DIGITS: u32 = 30;

const SIGN: u128 = 1 << 127;
const MANTISSA_BITS: u32 = 100;
const BIAS: i64 = 1 << 26;
/// Larger exponents than this count as this.
const EXPONENT_MAX: i64 = BIAS - 1;

impl Number {
    /// Zero, however it is written.
    pub(crate) const ZERO: Self = Self::from_bits(SIGN);

    const fn from_bits(bits: u128) -> Self {
        Self((bits >> 64) as u64, bits as u64)
    }

    /// The integer of the same order.
    pub(crate) fn bits(self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }

    /// Reads the text of a JSON number, whose grammar has been checked before.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let (negative, text) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let mut digits = Digits::default();
        let (mut fraction, mut exponent) = (false, 0i64);
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'0'..=b'9' => digits.push(byte - b'0', fraction),
                b'.' => fraction = true,
                _ => {
                    exponent = parse_exponent(&text[at + 1..]);
                    break;
                }
            }
        }
        digits.finish(negative, exponent)
    }

    /// The sign, the significant digits without trailing zeros, and the exponent of `0.d1d2… × 10^e`; none for zero.
    fn parts(self) -> Option<(bool, String, i64)> {
        if self == Self::ZERO {
            return None;
        }
        let negative = self.bits() & SIGN == 0;
        let bits = if negative { !self.bits() } else { self.bits() };
        let exponent = ((bits & !SIGN) >> MANTISSA_BITS) as i64 - BIAS;
        let mantissa = bits & ((1 << MANTISSA_BITS) - 1);
        let digits = format!("{mantissa:030}");
        Some((negative, digits.trim_end_matches('0').to_owned(), exponent))
    }
}

impl std::fmt::Display for Number {
    /// The shortest JSON text of the number: plain where that is readable, else with an exponent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((negative, digits, exponent)) = self.parts() else { return f.write_str("0") };
        if negative {
            f.write_str("-")?;
        }
        let length = digits.len() as i64;
        match exponent {
            e if e >= length && e <= 21 => write!(f, "{digits}{}", "0".repeat((e - length) as usize)),
            e if e > 0 && e < length => write!(f, "{}.{}", &digits[..e as usize], &digits[e as usize..]),
            e if e <= 0 && e > -6 => write!(f, "0.{}{digits}", "0".repeat((-e) as usize)),
            e if length == 1 => write!(f, "{digits}e{}", e - 1),
            e => write!(f, "{}.{}e{}", &digits[..1], &digits[1..], e - 1),
        }
    }
}

/// Significant digits as they are read from the left.
#[derive(Default)]
struct Digits {
    /// The first 19 or so; a `u64` is quicker than a `u128`, and nearly always enough.
    low: u64,
    high: u128,
    count: u32,
    /// The exponent of `0.d1d2… × 10^e`, before the written exponent.
    point: i64,
}

impl Digits {
    #[inline]
    fn push(&mut self, digit: u8, fraction: bool) {
        if self.count == 0 && digit == 0 {
            self.point -= i64::from(fraction);
            return;
        }
        self.point += i64::from(!fraction);
        match self.count {
            0..19 => self.low = self.low * 10 + u64::from(digit),
            19..DIGITS => {
                if self.count == 19 {
                    self.high = u128::from(self.low);
                }
                self.high = self.high * 10 + u128::from(digit);
            }
            _ => return,
        }
        self.count += 1;
    }

    fn finish(self, negative: bool, exponent: i64) -> Number {
        if self.count == 0 {
            return Number::ZERO;
        }
        let mantissa = if self.count <= 19 { u128::from(self.low) } else { self.high };
        let mantissa = mantissa * 10u128.pow(DIGITS - self.count);
        let exponent = self.point.saturating_add(exponent).clamp(-EXPONENT_MAX, EXPONENT_MAX);
        let bits = SIGN | (((exponent + BIAS) as u128) << MANTISSA_BITS) | mantissa;
        Number::from_bits(if negative { !bits } else { bits })
    }
}

fn parse_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let value =
        digits.iter().fold(0i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text.as_bytes())
    }

    #[test]
    fn numbers_are_equal_by_value_however_they_are_written() {
        for same in [
            ["300", "300.0", "3.0e2"],
            ["0", "-0", "0.000e5"],
            ["0.1", "1e-1", "0.10000"],
            ["-12.50", "-1.25e1", "-1250e-2"],
            ["18446744073709551616", "18446744073709551616.0", "1.8446744073709551616e19"],
            ["1e400", "10e399", "0.01e402"],
        ] {
            assert_eq!(number(same[0]), number(same[1]), "{same:?}");
            assert_eq!(number(same[0]), number(same[2]), "{same:?}");
        }
    }

    #[test]
    fn numbers_keep_their_order() {
        let ascending = [
            "-1e300",
            "-20000",
            "-3",
            "-2.5",
            "-2.4999",
            "-1e-9",
            "0",
            "1e-300",
            "1e-9",
            "0.99",
            "1",
            "1.000000000000001",
            "9.99",
            "10",
            "99",
            "100",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "1e22",
            "1e400",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn thirty_digits_count() {
        let thirty = "123456789012345678901234567890";
        assert_eq!(number(thirty).to_string(), "1.2345678901234567890123456789e29");
        assert_eq!(number(&format!("{thirty}.5")), number(thirty));
        assert_ne!(number("123456789012345678901234567891"), number(thirty));
    }

    #[test]
    fn the_printed_number_is_the_number() {
        for text in [
            "0",
            "5",
            "-5",
            "300",
            "0.5",
            "-12.25",
            "1e22",
            "1e-7",
            "0.00001",
            "123456.789",
            "-1.5e-30",
            "100000000000000000000",
        ] {
            assert_eq!(number(text).to_string(), text);
        }
        assert_eq!(number("3.0e2").to_string(), "300");
        assert_eq!(number(&number("1e99999999999999999999").to_string()), number("1e99999999999999999999"));
    }
}
