//! Logarithm and exponential that are the same to the last bit on every machine.
//!
//! The ones of `std` are those of the C library, which differ between systems in the last digit; a detector whose
//! windows are scored again after a restart elsewhere must not. Addition, division and square root are exact
//! everywhere (IEEE 754), so these are made of them.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// Natural logarithm; minus infinity at 0, NaN below.
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // Subnormal numbers are brought into the range in which the exponent says all.
    let (x, under) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, 54) } else { (x, 0) };
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023 - under;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 1023 << 52);
    if mantissa > SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh s; |s| is at most 0.172, so eleven terms reach the last bit.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let mut sum = 1.0 / 21.0;
    for odd in [19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * z + 1.0 / odd;
    }
    exponent as f64 * LN_2 + 2.0 * s * sum
}

/// Logarithm to base 2.
pub fn log2(x: f64) -> f64 {
    ln(x) * LOG2_E
}

/// Logarithm to base 10.
pub fn log10(x: f64) -> f64 {
    ln(x) * std::f64::consts::LOG10_E
}

/// `e` to the power of `x`; 0 below -708, the largest number above 709.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < -708.0 {
        return 0.0;
    }
    if x > 709.0 {
        return f64::MAX;
    }
    let whole = (x * LOG2_E).round();
    // Ln 2 in two parts, so that the difference keeps its digits.
    let rest = x - whole * 6.931_471_803_691_238e-1 - whole * 1.908_214_929_270_587_7e-10;
    let mut sum = 1.0;
    for n in (1..=14).rev() {
        sum = sum * rest / f64::from(n) + 1.0;
    }
    sum * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}

/// A half to the power of `n`.
pub fn halved(n: u64) -> f64 {
    if n < 1022 { f64::from_bits((1023 - n) << 52) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_agree_with_those_of_std(x in 1e-300..1e300_f64, small in -700.0..700.0_f64) {
            prop_assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}: {} {}", ln(x), x.ln());
            prop_assert!((exp(small) / small.exp() - 1.0).abs() < 1e-14, "{small}: {} {}", exp(small), small.exp());
        }
    }

    #[test]
    fn edges_are_those_of_std() {
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan() && ln(f64::INFINITY) == f64::INFINITY);
        assert!((ln(5e-324) - (5e-324_f64).ln()).abs() < 1e-12);
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
        assert!((log2(8.0) - 3.0).abs() < 1e-15 && (log10(1000.0) - 3.0).abs() < 1e-15);
        assert_eq!((exp(-1000.0), exp(1000.0)), (0.0, f64::MAX));
        assert_eq!((halved(0), halved(1), halved(10), halved(5000)), (1.0, 0.5, 1.0 / 1024.0, 0.0));
    }
}
