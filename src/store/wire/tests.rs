use super::*;
use crate::store::mirror::Found;
use crate::store::Mirrored;

fn login(password: Option<&str>, database: u32) -> Login {
    Login {
        username: None,
        password: password.map(Secret::new),
        database,
    }
}

/// An answer of the script, as Redis sends it.
fn script(fields: &str) -> String {
    let count = fields.split_whitespace().count();
    let fields: String = fields
        .split_whitespace()
        .map(|field| match field.parse::<i64>() {
            Ok(number) => format!(":{number}\r\n"),
            Err(_) if field == "nil" => "$-1\r\n".to_owned(),
            Err(_) => {
                let text = field.trim_start_matches('=');
                format!("${}\r\n{text}\r\n", text.len())
            }
        })
        .collect();
    format!("*{count}\r\n{fields}")
}

fn access(login: Login) -> Access {
    Access {
        login,
        key_prefix: "p:".to_owned(),
        mirrors: Vec::new(),
    }
}

fn read(bytes: &str) -> Result<Answer, Problem> {
    Access::default().read_answer(false, bytes.as_bytes())
}

#[test]
fn a_request_logs_in_selects_runs_the_script_and_quits() {
    let login = Login {
        username: Some(Secret::new("user")),
        password: Some(Secret::new("word")),
        database: 3,
    };
    let bytes = access(login).request("wx1", &Step::Read);
    let text = String::from_utf8(bytes).unwrap();
    let script = SCRIPT.len();
    let expected = [
        "*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$4\r\nword\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n",
        &format!("*6\r\n$4\r\nEVAL\r\n${script}\r\n{SCRIPT}\r\n$1\r\n2\r\n"),
        "$13\r\np:{wx1}:token\r\n$12\r\np:{wx1}:lock\r\n$4\r\nread\r\n*1\r\n$4\r\nQUIT\r\n",
    ];
    assert_eq!(text, expected.concat());
    let plain = access(Login::default()).request("wx1", &Step::Read);
    assert!(plain.starts_with(b"*6\r\n$4\r\nEVAL"));
    let old_style = access(super::tests::login(Some("word"), 0)).request("wx1", &Step::Read);
    assert!(old_style.starts_with(b"*2\r\n$4\r\nAUTH\r\n$4\r\nword\r\n*6\r\n"));
}

#[test]
fn the_scripts_arguments_stand_in_one_order() {
    let (owner, nonce) = (Nonce(0xab), Nonce(1));
    let (known, deadline) = (Version(7), UnixMillis(99));
    let second = Duration::from_secs(1);
    for (step, words) in [
        (Step::Read, "read"),
        (
            Step::Lock {
                owner,
                known,
                ttl: second * 14,
                deadline,
            },
            "lock 00000000000000ab 99 7 14000",
        ),
        (
            Step::Publish {
                owner,
                known,
                deadline,
                nonce,
                token: Secret::new("t"),
                left: second,
                life: second * 2,
            },
            "publish 00000000000000ab 99 7 1000 0000000000000001 t 2000 af63e94c860202a3",
        ),
        (
            Step::Release { owner, deadline },
            "release 00000000000000ab 99",
        ),
    ] {
        assert_eq!(arguments(&step).join(" "), words);
    }
}

#[test]
fn an_answer_tells_the_whole_state() {
    let answer = read(&script(
        "busy 1700000000000 1699999999999 60000 500 =token =7200000 nil",
    ))
    .unwrap();
    assert_eq!(answer.outcome, Outcome::Busy);
    assert_eq!(answer.clock, UnixMillis(1_700_000_000_000));
    assert_eq!(answer.version, Version(1_699_999_999_999));
    assert_eq!(answer.locked_for, Some(Duration::from_millis(500)));
    let token = answer.token.unwrap();
    assert_eq!(token.value.expose(), "token");
    assert_eq!(token.left, Duration::from_secs(60));
    assert_eq!(token.life, Duration::from_secs(7_200));
    for (word, outcome) in [
        ("read", Outcome::Read),
        ("locked", Outcome::Locked),
        ("published", Outcome::Published),
        ("newer", Outcome::Newer),
        ("late", Outcome::Late),
    ] {
        let answer = read(&script(&format!("{word} 5 0 -2 -2 nil nil nil"))).unwrap();
        assert_eq!(answer.outcome, outcome);
        assert_eq!((answer.token, answer.locked_for), (None, None));
    }
}

#[test]
fn what_is_no_token_is_none_and_a_life_is_not_shorter_than_what_is_left_of_it() {
    let long = "x".repeat(513);
    for (what, fields) in [
        ("no end", "read 5 1 -1 -2 =t =7200000 nil"),
        ("no life", "read 5 1 60000 -2 =t nil nil"),
        ("not visible", "read 5 1 60000 -2 =\u{7f} =7200000 nil"),
        (
            "too long",
            &format!("read 5 1 60000 -2 ={long} =7200000 nil"),
        ),
    ] {
        assert_eq!(read(&script(fields)).unwrap().token, None, "{what}");
    }
    let answer = read(&script("read 5 1 60000 -2 =t =1 nil")).unwrap();
    assert_eq!(answer.token.unwrap().life, Duration::from_secs(60));
}

#[test]
fn what_is_not_the_scripts_answer_is_a_problem_that_says_so() {
    let not_ours = Problem::Unreadable("the script's answer is not ours");
    let broke_off = Problem::Unreachable("the answer broke off");
    let refused = |code: &str| Problem::Refused(code.to_owned());
    let whole = script("read 5 0 -2 -2 nil nil nil");
    for (bytes, problem) in [
        ("", Problem::NoReply),
        ("+OK\r\n", not_ours.clone()),
        ("*0\r\n", not_ours.clone()),
        (&script("maybe 5 0 -2 -2 nil nil nil"), not_ours.clone()),
        (&script("read -5 0 -2 -2 nil nil nil"), not_ours.clone()),
        (&script("read 5 0 -2 -2 nil nil"), not_ours.clone()),
        (&script("read 5 0 -2 -2 nil nil nil nil"), not_ours.clone()),
        (&whole[..whole.len() - 1], broke_off.clone()),
        (
            "HTTP/1.1 400\r\n",
            Problem::Unreadable("the answer is not RESP"),
        ),
        (
            "$70000\r\n",
            Problem::Unreadable("the answer is longer than 64 KiB"),
        ),
        (
            "-NOAUTH Authentication required.\r\n+OK\r\n",
            refused("NOAUTH"),
        ),
        (
            "-LOADING Redis is loading the dataset in memory\r\n",
            refused("LOADING"),
        ),
        ("-MOVED 3999 127.0.0.1:6381\r\n", refused("MOVED")),
        ("-ERR unknown command 'EVAL'\r\n", refused("ERR")),
        ("-something in lower case\r\n", refused("unknown")),
        ("-A-SECRET-THAT-IS-REPEATED\r\n", refused("unknown")),
    ] {
        assert_eq!(read(bytes), Err(problem), "{bytes:?}");
    }
}

#[test]
fn errors_of_a_script_before_redis_7_are_found_behind_their_preface() {
    for (error, code) in [
        ("ERR Error running script (call to f_9c): @user_script:5: WRONGTYPE Operation against a key", "WRONGTYPE"),
        ("ERR Error running script (call to f_9c): @user_script:14: @user_script: 14: -READONLY You can't write", "READONLY"),
        ("ERR Error running script (call to f_9c): @user_script:14: OOM command not allowed", "OOM"),
        ("ERR invalid DB index", "ERR"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
    ] {
        assert_eq!(super::code(error), code, "{error}");
    }
}

#[test]
fn an_answer_is_read_behind_those_to_auth_and_select() {
    let whole = script("read 5 0 -2 -2 nil nil nil");
    for (login, before) in [
        (login(None, 0), ""),
        (login(Some("p"), 0), "+OK\r\n"),
        (login(None, 1), "+OK\r\n"),
        (login(Some("p"), 1), "+OK\r\n+OK\r\n"),
    ] {
        let access = access(login.clone());
        let bytes = format!("{before}{whole}+OK\r\n");
        assert!(
            access.read_answer(false, bytes.as_bytes()).is_ok(),
            "{login:?}"
        );
        // What is missing at the end is QUIT's.
        let bytes = format!("{before}{whole}");
        assert!(
            access.read_answer(false, bytes.as_bytes()).is_ok(),
            "{login:?}"
        );
        if !before.is_empty() {
            assert!(
                access.read_answer(false, whole.as_bytes()).is_err(),
                "{login:?}"
            );
        }
    }
    let select = "+OK\r\n-ERR DB index is out of range\r\n";
    let problem = access(login(Some("p"), 99)).read_answer(false, select.as_bytes());
    assert_eq!(problem, Err(Problem::Refused("ERR".to_owned())));
}

#[test]
fn a_problem_says_what_to_do_and_repeats_nothing() {
    let said = |code: &str| Problem::Refused(code.to_owned()).to_string();
    assert_eq!(
        said("WRONGPASS"),
        "redis_error=WRONGPASS meaning=\"username or password is wrong, or the user is off\""
    );
    assert!(said("unknown").contains("documentation of Redis"));
    assert!(Problem::NoReply.to_string().contains("half-close"));
    let login = login(Some("hunter2"), 0);
    assert!(!format!("{login:?}").contains("hunter2"));
}

/// An app with a mirror that has two keys, and one with one.
fn with_mirrors() -> Access {
    let with_end = Mirror {
        expires_at_key: Some("e:{appid}".to_owned()),
        ..Mirror::plain("a:{appid}")
    };
    Access {
        mirrors: vec![with_end, Mirror::plain("b")],
        ..access(login(Some("p"), 0))
    }
}

fn commands(bytes: &[u8]) -> Vec<String> {
    let (replies, _) = decode(bytes);
    let word = |reply: &Reply| match reply {
        Reply::Bulk(bytes) if bytes.len() < 40 => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Bulk(_) => "SCRIPT".to_owned(),
        other => format!("{other:?}"),
    };
    let command = |reply: &Reply| match reply {
        Reply::Array(words) => words.iter().map(word).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    };
    replies.iter().map(command).collect()
}

#[test]
fn neighbours_keys_are_read_first_and_written_before_the_state_is_read() {
    let read = commands(&with_mirrors().request("wx1", &Step::Read));
    let reads = [
        "AUTH p",
        "GETRANGE a:wx1 0 2047",
        "PTTL a:wx1",
        "GETRANGE b 0 2047",
        "PTTL b",
    ];
    let state = ["EVAL SCRIPT 2 p:{wx1}:token p:{wx1}:lock read", "QUIT"];
    assert_eq!(read, [reads.as_slice(), &state].concat());
    let step = Step::Mirror {
        deadline: UnixMillis(5_500),
        token: Secret::new("t"),
        left: Duration::from_secs(60),
        end: UnixMillis(65_000),
    };
    assert!(step.writes_mirrors() && !Step::Read.writes_mirrors());
    let write = commands(&with_mirrors().request("wx1", &step));
    let writes = [
        "EVAL SCRIPT 1 e:wx1 5500 65000 60000 65",
        "EVAL SCRIPT 1 a:wx1 5500 65000 60000 t",
        "EVAL SCRIPT 1 b 5500 65000 60000 t",
    ];
    assert_eq!(write, [reads.as_slice(), &writes, &state].concat());
}

#[test]
fn what_redis_refuses_at_a_neighbours_key_is_not_the_stores_matter() {
    let state = script("read 5 0 -2 -2 nil nil =af63dc4c8601ec8c");
    let reads = "+OK\r\n$1\r\nt\r\n:1000\r\n-NOPERM no\r\n-NOPERM no\r\n";
    let access = with_mirrors();
    let answer = access.read_answer(false, format!("{reads}{state}").as_bytes());
    let answer = answer.unwrap();
    let token = Found::Token {
        value: Secret::new("t"),
        left: Some(Duration::from_secs(1)),
    };
    assert_eq!(answer.mirrors, [token, Found::Other]);
    assert_eq!(answer.mirrored, None);
    assert_eq!(answer.seen, [Fingerprint::of(&Secret::new("a"))]);
    let refused = Mirrored::Refused("NOPERM".to_owned());
    for (writes, outcome) in [
        (":1\r\n:1\r\n:1\r\n", Mirrored::Done),
        (":1\r\n:0\r\n:1\r\n", Mirrored::Late),
        (":1\r\n:1\r\n-NOPERM no\r\n", refused),
    ] {
        let bytes = format!("{reads}{writes}{state}");
        let answer = access.read_answer(true, bytes.as_bytes()).unwrap();
        assert_eq!(answer.mirrored, Some(outcome));
    }
}

#[test]
fn without_a_state_the_first_refusal_is_told() {
    let access = with_mirrors();
    let refused = |code: &str| Err(Problem::Refused(code.to_owned()));
    let loading = "-LOADING wait\r\n".repeat(5);
    for (bytes, problem) in [
        (format!("+OK\r\n{loading}"), refused("LOADING")),
        ("-WRONGPASS no\r\n".to_owned(), refused("WRONGPASS")),
        // Too many clients: one refusal, and the end.
        (
            "+OK\r\n-ERR max number of clients\r\n".to_owned(),
            refused("ERR"),
        ),
        (
            "+OK\r\n$1\r\nt\r\n:1000\r\n".to_owned(),
            Err(Problem::Unreachable("the answer broke off")),
        ),
    ] {
        assert_eq!(
            access.read_answer(false, bytes.as_bytes()),
            problem,
            "{bytes:?}"
        );
    }
}
