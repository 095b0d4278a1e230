//! Token buckets by name, as many as there is room for. Pure.

use std::{collections::HashMap, net::IpAddr};

use crate::{clock::Nanos, limits, net::bucket::Bucket};

const SECOND: Nanos = 1_000_000_000;

/// So many in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per_s: u32,
}

impl std::str::FromStr for Rate {
    type Err = String;
    /// Reads `600/minute`; `second`, `minute`, `hour`.
    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once('/').and_then(|(count, unit)| {
            let per_s = match unit.trim() {
                "second" => 1,
                "minute" => 60,
                "hour" => 3600,
                _ => return None,
            };
            let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
            Some(Self { count, per_s })
        });
        read.ok_or_else(|| format!("{text:?} is no rate; write 1 to 1000000 \"/second\", \"/minute\" or \"/hour\""))
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per_s {
            1 => "second".to_owned(),
            60 => "minute".to_owned(),
            3600 => "hour".to_owned(),
            other => format!("{other} s"),
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// The network of which callers count as one: an address of IPv4, the 64 bits of a site of IPv6.
pub(super) fn network(address: Option<IpAddr>) -> String {
    match address {
        None => "socket".into(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// A bucket for each caller; all may come at once once.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    buckets: HashMap<String, Bucket, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::default() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// Milliseconds until there is one.
    pub(super) fn take(&mut self, name: &str, now: Nanos) -> Result<(), u64> {
        if !self.buckets.contains_key(name) {
            self.make_room(now);
            let interval = SECOND * Nanos::from(self.rate.per_s) / Nanos::from(self.rate.count.max(1));
            self.buckets.insert(name.to_owned(), Bucket::every(interval, self.rate.count.into()));
        }
        match self.buckets.get_mut(name).map(|bucket| bucket.take(now)) {
            Some(Err(at)) => Err(wait(at, now)),
            _ => Ok(()),
        }
    }

    /// Looks whether there is one.
    ///
    /// # Errors
    /// Milliseconds until there is one.
    pub(super) fn look(&self, name: &str, now: Nanos) -> Result<(), u64> {
        match self.buckets.get(name).map(|bucket| bucket.next(now)) {
            Some(at) if at > now => Err(wait(at, now)),
            _ => Ok(()),
        }
    }

    /// Forgets who has rested, and if nobody has, somebody.
    fn make_room(&mut self, now: Nanos) {
        if self.buckets.len() < limits::API_CALLERS_MAX {
            return;
        }
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        if self.buckets.len() >= limits::API_CALLERS_MAX
            && let Some(name) = self.buckets.keys().next().cloned()
        {
            self.buckets.remove(&name);
        }
    }
}

fn wait(at: Nanos, now: Nanos) -> u64 {
    (at - now).div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_shown() {
        for text in ["600/minute", "10/second", "1/hour"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for wrong in ["", "10", "0/minute", "-1/minute", "10/day", "1.5/minute", "2000000/hour"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn callers_are_counted_apart_and_a_crowd_is_bounded() {
        let mut limiter = Limiter::new(Rate { count: 2, per_s: 60 });
        assert_eq!([1, 2, 3].map(|_| limiter.take("a", 0)), [Ok(()), Ok(()), Err(30_000)]);
        assert_eq!((limiter.look("a", 0), limiter.look("b", 0)), (Err(30_000), Ok(())));
        assert_eq!(limiter.take("b", 0), Ok(()));
        for n in 0..2 * limits::API_CALLERS_MAX {
            limiter.take(&n.to_string(), 0).unwrap();
        }
        assert!(limiter.buckets.len() <= limits::API_CALLERS_MAX);
    }

    #[test]
    fn a_site_of_ipv6_is_one_caller() {
        let of = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
