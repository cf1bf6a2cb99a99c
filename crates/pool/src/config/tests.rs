//! Settings that work, and those that cannot.

use super::*;

#[test]
fn the_defaults_are_those_of_sqlalchemy_and_valid() {
    let config = Config::default();
    assert_eq!(
        (config.pool_size, config.max_overflow, config.pool_timeout),
        (5, 10, Duration::from_secs(30))
    );
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(config.max_connections(), Some(15));
}

#[test]
fn what_cannot_work_is_refused_with_what_to_write_instead() {
    let refusal = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err()
    };
    let zero = refusal(|config| config.pool_size = 0);
    assert_eq!(zero, ConfigError::PoolSizeZero);
    assert!(zero.to_string().contains("max_overflow = -1"), "{zero}");
    assert_eq!(
        refusal(|config| config.max_overflow = -2),
        ConfigError::MaxOverflow { value: -2 }
    );
    assert_eq!(
        refusal(|config| config.max_connecting = 0),
        ConfigError::MaxConnectingZero
    );
    assert_eq!(
        refusal(|config| config.reset_timeout = Duration::ZERO),
        ConfigError::ZeroDuration {
            name: "reset_timeout"
        }
    );
    assert_eq!(
        refusal(|config| config.backoff_max = Duration::from_millis(1)),
        ConfigError::BackoffBounds
    );
    assert_eq!(
        refusal(|config| config.waiters_max = Some(0)),
        ConfigError::WaitersMaxZero
    );
    assert_eq!(
        refusal(|config| config.leak_threshold = Some(Duration::ZERO)),
        ConfigError::ZeroDuration {
            name: "leak_threshold"
        }
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_the_reason() {
    let secs = Duration::from_secs;
    let sound = Config {
        min_idle: 2,
        idle_timeout: Some(secs(60)),
        overflow_linger: secs(5),
        pool_recycle: Some(secs(600)),
        ..Config::default()
    };
    assert_eq!(sound.validate(), Ok(()));
    let refusal = |change: fn(&mut Config)| {
        let mut config = sound.clone();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    let text = refusal(|config| config.min_idle = 6);
    assert!(text.contains("no more than pool_size, 5"), "{text}");
    let text = refusal(|config| config.min_idle = 5);
    assert!(text.contains("idle_timeout has no effect"), "{text}");
    let text = refusal(|config| config.idle_timeout = config.pool_recycle);
    assert!(text.contains("not below pool_recycle, 10m00s"), "{text}");
    let text = refusal(|config| config.overflow_linger = Duration::from_secs(61));
    assert!(
        text.contains("1m01s, is above idle_timeout, 1m00s"),
        "{text}"
    );
    let text = refusal(|config| config.connect_timeout = Duration::from_secs(600));
    assert!(text.contains("not above connect_timeout"), "{text}");
}

#[test]
fn somebody_looks_often_enough_for_what_is_set_and_never_otherwise() {
    let secs = Duration::from_secs;
    assert_eq!(Config::default().housekeeping(5), None);
    let set = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.housekeeping(config.pool_size).unwrap()
    };
    let recycle = set(|config| config.pool_recycle = Some(Duration::from_secs(120)));
    assert_eq!(recycle, secs(8), "half of the space between two");
    let leak = set(|config| config.leak_threshold = Some(Duration::from_secs(4)));
    assert_eq!(leak, secs(2));
    let idle = set(|config| config.idle_timeout = Some(Duration::from_secs(3600)));
    assert_eq!(idle, HOUSEKEEPING_MAX);
    let linger = set(|config| config.overflow_linger = Duration::from_nanos(1));
    assert_eq!(linger, HOUSEKEEPING_MIN);
}

#[test]
fn minus_one_means_no_limit_and_zero_none_beyond_pool_size() {
    let unlimited = Config {
        max_overflow: -1,
        ..Config::default()
    };
    assert_eq!(unlimited.validate(), Ok(()));
    assert_eq!(unlimited.max_connections(), None);
    assert_eq!(unlimited.limits().max_open, usize::MAX);
    let fixed = Config {
        max_overflow: 0,
        ..Config::default()
    };
    assert_eq!(fixed.validate(), Ok(()));
    assert_eq!(fixed.limits().max_open, 5);
}
