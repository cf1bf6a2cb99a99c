//! URLs as people have them in their configuration.

use super::*;

fn parse(text: &str) -> DatabaseUrl {
    text.parse().unwrap()
}

fn refusal(text: &str) -> UrlError {
    text.parse::<DatabaseUrl>().unwrap_err()
}

#[test]
fn every_scheme_that_sqlalchemy_and_libpq_write_is_read() {
    for scheme in [
        "postgres",
        "postgresql",
        "postgresql+asyncpg",
        "postgresql+psycopg2",
        "postgresql+psycopg",
        "postgresql+pg8000",
        "PostgreSQL+Psycopg_Async",
    ] {
        let url = parse(&format!("{scheme}://app:pw@db.example:6432/shop"));
        assert_eq!(
            (url.user(), url.host(), url.port(), url.database()),
            ("app", "db.example", 6432, Some("shop")),
            "{scheme}"
        );
    }
    assert_eq!(
        refusal("mysql+pymysql://app:pw@h/d"),
        UrlError::Scheme {
            scheme: "mysql+pymysql".to_owned()
        }
    );
    assert_eq!(refusal("localhost/shop"), UrlError::NoScheme);
}

#[test]
fn every_part_may_be_percent_encoded() {
    let url = parse("postgresql://a%40b:p%40ss%2Fw%3Ard%3F%23@h/my%20shop");
    assert_eq!((url.user(), url.database()), ("a@b", Some("my shop")));
    let options = url.options();
    assert_eq!(
        (options.get_username(), options.get_database()),
        ("a@b", Some("my shop"))
    );
    // sqlx shows a password only in its `Debug`.
    assert!(format!("{options:?}").contains("p@ss/w:rd?#"));
}

#[test]
fn a_password_may_hold_what_sqlalchemy_lets_it_hold() {
    for (text, password) in [
        ("postgresql://app:p@ss@h/d", "p@ss"),
        ("postgresql://app:a:b@h/d", "a:b"),
        ("postgresql://app:a+b@h/d", "a+b"),
        ("postgresql://app:a%2Bb@h/d", "a+b"),
    ] {
        let url = parse(text);
        assert_eq!((url.host(), url.database()), ("h", Some("d")), "{text}");
        let shown = format!("{:?}", url.options());
        assert!(shown.contains(&format!("{password:?}")), "{text}");
    }
}

#[test]
fn a_password_is_never_shown() {
    for text in [
        "postgresql://app:s3cret@h:5433/d",
        "postgresql://app@h:5433/d?password=s3cret",
        "postgresql+asyncpg://app:s3cret@h:5433/d?ssl=require",
    ] {
        let url = parse(text);
        assert_eq!(url.to_string(), "postgresql://app:***@h:5433/d");
        assert_eq!(
            format!("{url:?}"),
            "DatabaseUrl(postgresql://app:***@h:5433/d)"
        );
    }
    assert_eq!(
        parse("postgresql://app@[::1]:5433").to_string(),
        "postgresql://app@[::1]:5433"
    );
    for text in [
        "postgresql://app:s3cret#x@h/d",
        "postgresql://app:s3cret@h:port/d",
        "postgresql://app:s3cret@h:0/d",
        "postgresql://app:s3cret@[::1/d",
        "postgresql://app:s3cret@[nonsense]/d",
        "postgresql://app:s3cret@h1,h2/d",
        "postgresql://app:s3cret%ff@h/d",
        "postgresql://app:s3cret@h/d?sslmode=s3cret",
        "postgresql://app:s3cret@h/d?port=s3cret",
        "s3cret:s3cret@h/d",
        "app:s3cret@mysql://h/d",
        "app s3cret mysql://h/d",
        "app:s3cret://h/d",
    ] {
        let error = refusal(text);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret"), "{text}: {shown}");
    }
}

#[test]
fn mistakes_are_named_precisely() {
    for (text, error) in [
        ("postgresql://h:99999/d", UrlError::Port),
        ("postgresql://h:0/d", UrlError::Port),
        ("postgresql://h:1:2/d", UrlError::Port),
        ("postgresql://h/d?port=x", UrlError::Port),
        ("postgresql://[::1/d", UrlError::Bracket),
        ("postgresql://[::1]x/d", UrlError::Bracket),
        ("postgresql://h1,h2/d", UrlError::SeveralHosts),
        ("postgresql://h/d?host=h1,h2", UrlError::SeveralHosts),
        ("postgresql://a#b@h/d", UrlError::Fragment),
        (
            "postgresql://h/%ff",
            UrlError::Encoding {
                part: "database name",
            },
        ),
        (
            "postgresql://h/d?sslmode=sometimes",
            UrlError::Parameter {
                name: "sslmode".to_owned(),
            },
        ),
        (
            "postgresql://h/d?hostaddr=h2",
            UrlError::Parameter {
                name: "hostaddr".to_owned(),
            },
        ),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
}

#[test]
fn loopback_is_told_by_name_alone() {
    for (text, expected) in [
        ("postgresql://127.0.0.1/d", true),
        ("postgresql://127.9.8.7/d", true),
        ("postgresql://[::1]/d", true),
        ("postgresql://[::ffff:127.0.0.1]/d", true),
        ("postgresql://LocalHost/d", true),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/d", true),
        ("postgresql:///d?host=/var/run/postgresql", true),
        ("postgresql://localhost.example.org/d", false),
        ("postgresql://127.0.0.1.example.org/d", false),
        ("postgresql://10.0.0.1/d", false),
        ("postgresql://[::2]/d", false),
        ("postgresql://0.0.0.0/d", false),
        // The parameters decide where sqlx connects to, so they decide here.
        ("postgresql://127.0.0.1/d?host=db.example", false),
        ("postgresql://127.0.0.1/d?hostaddr=10.0.0.1", false),
        (
            "postgresql://127.0.0.1/d?hostaddr=10.0.0.1&host=localhost",
            false,
        ),
    ] {
        let url = parse(text);
        assert_eq!(url.is_loopback(), expected, "{text}");
        let options = url.options();
        let connects_to = options.get_socket().map_or_else(
            || options.get_host().to_owned(),
            |socket| socket.to_string_lossy().into_owned(),
        );
        assert_eq!(
            connects_to,
            url.host(),
            "{text}: what is judged is what is connected to"
        );
    }
}

#[test]
fn parameters_are_passed_on_translated_or_listed_as_ignored() {
    use sqlx::postgres::PgSslMode;
    for (parameter, mode) in [
        ("sslmode=require", PgSslMode::Require),
        ("ssl=require", PgSslMode::Require),
        ("ssl=true", PgSslMode::VerifyFull),
        ("ssl=False", PgSslMode::Disable),
        ("sslmode=VERIFY-CA", PgSslMode::VerifyCa),
    ] {
        let options = parse(&format!("postgresql://h/d?{parameter}")).options();
        assert_eq!(
            std::mem::discriminant(&options.get_ssl_mode()),
            std::mem::discriminant(&mode),
            "{parameter}"
        );
    }
    let url = parse(
        "postgresql+asyncpg://h/d?application_name=my+app&prepared_statement_cache_size=0\
         &options=-c%20statement_timeout%3D5s&target_session_attrs=any&port=7777&user=u&dbname=e",
    );
    let options = url.options();
    assert_eq!(options.get_application_name(), Some("my app"));
    assert_eq!(options.get_options(), Some("-c statement_timeout=5s"));
    assert_eq!(
        (url.port(), url.user(), url.database()),
        (7777, "u", Some("e"))
    );
    assert_eq!(
        url.ignored(),
        ["prepared_statement_cache_size", "target_session_attrs"]
    );
}

#[test]
fn a_password_with_a_question_mark_is_not_taken_for_parameters() {
    for text in [
        "postgresql://app:12?s3cret@h/d",
        "postgresql://app:12/x?s3cret@h/d",
        "postgresql://app:p@12?s3cret@h/d",
        "postgresql://h/d?user=app@s3cret",
    ] {
        let error = refusal(text);
        assert_eq!(error, UrlError::QuestionMark, "{text}");
        assert!(error.to_string().contains("%3F"), "{error}");
    }
    let url = parse("postgresql://app:12%3Fx@h/d?user=a%40b");
    assert_eq!((url.host(), url.user()), ("h", "a@b"));
}

#[test]
fn a_nul_at_which_a_part_would_end_for_the_server_is_refused() {
    for (text, part) in [
        ("postgresql://app%00database%00other@h/d", "user name"),
        ("postgresql://app:p%00@h/d", "password"),
        ("postgresql://h%00/d", "host"),
        ("postgresql://h/d%00", "database name"),
        ("postgresql://h/d?options=-c%00", "value of a parameter"),
    ] {
        assert_eq!(refusal(text), UrlError::Encoding { part }, "{text}");
    }
}

#[test]
fn a_host_is_shown_so_that_it_reads_the_same() {
    for (text, shown) in [
        ("postgresql://u@a%3Ab:1", "postgresql://u@a%3Ab:1"),
        ("postgresql://u@a%2541:1", "postgresql://u@a%2541:1"),
        ("postgresql://u@a%40b:1", "postgresql://u@a%40b:1"),
        (
            "postgresql://u@db-1.example_2:1",
            "postgresql://u@db-1.example_2:1",
        ),
        ("postgresql://u@[::1]:1", "postgresql://u@[::1]:1"),
    ] {
        let url = parse(text);
        assert_eq!(url.to_string(), shown);
        assert_eq!(parse(shown).host(), url.host());
    }
}

#[test]
fn what_is_too_long_for_a_scheme_is_not_repeated() {
    let pasted = format!("{}://h/d", "s3cret".repeat(50));
    assert_eq!(refusal(&pasted), UrlError::NoScheme);
}
