//! WeChat's errcodes as data: what each means, what it says about the token when a business call gets it, and how the
//! refresher goes on when the token endpoint answers with it.
//!
//! Answers are judged by `errcode`, never by `errmsg`. The waiting rules are those of WeChat's documentation where it
//! gives one (minute and daily quotas, refused IPs); a mistake that an operator can mend is tried again soon enough to be
//! noticed. A code that is not here is the caller's matter on a business call, and worth another try on the token endpoint.

use std::time::Duration;

/// One errcode.
#[derive(Debug, PartialEq, Eq)]
pub struct Errcode {
    /// WeChat's number.
    pub code: i64,
    /// What it means, for a log line or a local reply: lower case, no quotes.
    pub meaning: &'static str,
    /// What an operator can do about it on the token endpoint; empty if nothing.
    pub advice: &'static str,
    /// On a business call.
    pub on_call: OnCall,
    /// On the token endpoint.
    pub on_token: OnToken,
}

/// What an errcode on a business call says about the token it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCall {
    /// The token is stale: refresh, if it is still the current one.
    Rejected,
    /// There was no token: an injection did not happen.
    Missing,
    /// Nothing; it is the caller's matter.
    Caller,
}

/// How the refresher goes on after an errcode from the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnToken {
    /// Try again with back-off.
    Transient,
    /// The AppSecret is wrong: try the next one; without another, fatal and tried again after this time.
    WrongSecret {
        /// Until a single trial.
        retry: Duration,
    },
    /// No try will succeed until somebody mends something.
    Fatal {
        /// Until a single trial.
        retry: Duration,
    },
    /// WeChat wants to be left alone for some time.
    Wait {
        /// No call before this has passed.
        at_least: Duration,
    },
    /// The day's quota is used up; it comes back at midnight in Asia/Shanghai.
    UntilMidnight,
}

/// The entry for `code`.
pub fn lookup(code: i64) -> Option<&'static Errcode> {
    let at = TABLE.binary_search_by_key(&code, |entry| entry.code).ok()?;
    TABLE.get(at)
}

/// What `code` on a business call says about the token.
pub fn on_call(code: i64) -> OnCall {
    lookup(code).map_or(OnCall::Caller, |entry| entry.on_call)
}

/// How the refresher goes on after `code`.
pub fn on_token(code: i64) -> OnToken {
    lookup(code).map_or(OnToken::Transient, |entry| entry.on_token)
}

/// Whether WeChat would say the same to another Envoy: `code` is about the app, not about an address or a configuration.
pub fn is_for_all(code: i64) -> bool {
    matches!(on_token(code), OnToken::Transient | OnToken::UntilMidnight) || code == 45011
}

/// What `code` means, if it is known.
pub fn meaning(code: i64) -> Option<&'static str> {
    lookup(code).map(|entry| entry.meaning)
}

const fn rejected(code: i64, meaning: &'static str) -> Errcode {
    entry(code, meaning, "", OnCall::Rejected, OnToken::Transient)
}

const fn caller(code: i64, meaning: &'static str) -> Errcode {
    entry(code, meaning, "", OnCall::Caller, OnToken::Transient)
}

const fn token(
    code: i64,
    meaning: &'static str,
    advice: &'static str,
    on_token: OnToken,
) -> Errcode {
    entry(code, meaning, advice, OnCall::Caller, on_token)
}

const fn entry(
    code: i64,
    meaning: &'static str,
    advice: &'static str,
    on_call: OnCall,
    on_token: OnToken,
) -> Errcode {
    Errcode {
        code,
        meaning,
        advice,
        on_call,
        on_token,
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A wrong appid or secret mends itself by a new configuration, which starts a new machine; hence the long pause.
const CONFIGURATION: OnToken = OnToken::Fatal {
    retry: FIVE_MINUTES,
};
const SECRET: OnToken = OnToken::WrongSecret {
    retry: FIVE_MINUTES,
};
/// An entry added to the whitelist should work soon.
const WHITELIST: OnToken = OnToken::Fatal { retry: MINUTE };

const CHECK_SECRET: &str = "check the secret in the plugin's configuration";
const CHECK_APPID: &str = "check the appid in the plugin's configuration";
const ADD_IP: &str = "add this Envoy's outgoing IP to the app's IP whitelist";
const ASK_ADMIN: &str = "have the app's administrator confirm this Envoy's IP in WeChat";

/// Sorted by code.
const TABLE: &[Errcode] = &[
    token(-1, "system error, WeChat is busy", "", OnToken::Transient),
    entry(
        40001,
        "the secret is wrong, or the access_token is invalid or not the latest",
        CHECK_SECRET,
        OnCall::Rejected,
        SECRET,
    ),
    token(40002, "invalid grant_type", "", CONFIGURATION),
    token(40013, "invalid appid", CHECK_APPID, CONFIGURATION),
    rejected(40014, "invalid access_token"),
    caller(40097, "invalid arguments"),
    token(40125, "invalid appsecret", CHECK_SECRET, SECRET),
    token(
        40164,
        "the calling IP is not in the app's whitelist",
        ADD_IP,
        WHITELIST,
    ),
    token(
        40243,
        "the appsecret is frozen",
        "unfreeze the secret in WeChat's console",
        CONFIGURATION,
    ),
    entry(
        41001,
        "access_token missing",
        "",
        OnCall::Missing,
        OnToken::Transient,
    ),
    token(41002, "appid missing", CHECK_APPID, CONFIGURATION),
    token(41004, "appsecret missing", CHECK_SECRET, SECRET),
    rejected(42001, "access_token expired"),
    caller(42007, "the user changed the password, authorise again"),
    caller(43002, "must be called with POST"),
    token(
        45009,
        "the daily quota is used up",
        "wait until midnight in China, or clear the quota in WeChat's console",
        OnToken::UntilMidnight,
    ),
    token(
        45011,
        "too many calls in this minute",
        "",
        OnToken::Wait { at_least: MINUTE },
    ),
    caller(48001, "the app has no permission for this API"),
    token(
        50004,
        "the app is forbidden to fetch tokens",
        "check the app's state in WeChat's console",
        CONFIGURATION,
    ),
    token(
        50007,
        "the account is frozen",
        "check the app's state in WeChat's console",
        CONFIGURATION,
    ),
    token(61004, "the calling IP is not registered", ADD_IP, WHITELIST),
    caller(
        61007,
        "the API is not authorised to the third-party platform",
    ),
    caller(61014, "the API is not allowed to a third-party platform"),
    token(
        89501,
        "the calling IP waits for the administrator's confirmation",
        ASK_ADMIN,
        OnToken::Wait {
            at_least: FIVE_MINUTES,
        },
    ),
    token(
        89503,
        "the calling IP needs the administrator's confirmation",
        ASK_ADMIN,
        OnToken::Wait {
            at_least: FIVE_MINUTES,
        },
    ),
    token(
        89506,
        "the administrator refused the calling IP twice, for 24 hours",
        ASK_ADMIN,
        OnToken::Fatal { retry: DAY },
    ),
    token(
        89507,
        "the administrator refused the calling IP, for 1 hour",
        ASK_ADMIN,
        OnToken::Fatal { retry: HOUR },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_code_is_found() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].code < pair[1].code, "{pair:?}");
        }
        for entry in TABLE {
            assert_eq!(lookup(entry.code), Some(entry), "{}", entry.code);
        }
        for code in [i64::MIN, -2, 0, 1, 40003, 99_999, i64::MAX] {
            assert_eq!(lookup(code), None, "{code}");
        }
    }

    #[test]
    fn only_stale_token_codes_lead_to_a_refresh() {
        for code in -100..100_000 {
            let expected = match code {
                40001 | 40014 | 42001 => OnCall::Rejected,
                41001 => OnCall::Missing,
                _ => OnCall::Caller,
            };
            assert_eq!(on_call(code), expected, "{code}");
        }
    }

    #[test]
    fn each_code_of_the_token_endpoint_has_its_own_waiting_rule() {
        for (code, expected) in [
            (-1, OnToken::Transient),
            (40001, SECRET),
            (40125, SECRET),
            (41004, SECRET),
            (40002, CONFIGURATION),
            (40013, CONFIGURATION),
            (41002, CONFIGURATION),
            (40243, CONFIGURATION),
            (50004, CONFIGURATION),
            (50007, CONFIGURATION),
            (40164, WHITELIST),
            (61004, WHITELIST),
            (45009, OnToken::UntilMidnight),
            (45011, OnToken::Wait { at_least: MINUTE }),
            (
                89501,
                OnToken::Wait {
                    at_least: FIVE_MINUTES,
                },
            ),
            (
                89503,
                OnToken::Wait {
                    at_least: FIVE_MINUTES,
                },
            ),
            (89506, OnToken::Fatal { retry: DAY }),
            (89507, OnToken::Fatal { retry: HOUR }),
            (48001, OnToken::Transient),
            (40014, OnToken::Transient),
            (12345, OnToken::Transient),
        ] {
            assert_eq!(on_token(code), expected, "{code}");
        }
    }

    #[test]
    fn texts_fit_into_a_log_line_and_a_json_string() {
        for entry in TABLE {
            for text in [entry.meaning, entry.advice] {
                let fits = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
                assert!(text.chars().all(fits), "{}: {text}", entry.code);
            }
            assert!(!entry.meaning.is_empty(), "{}", entry.code);
        }
    }
}
