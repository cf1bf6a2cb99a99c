//! URLs as people have them in their configuration.

use super::parameters::Fate;
use super::parts::system_user;
use super::*;

fn parse(text: &str) -> DatabaseUrl {
    text.parse().unwrap()
}

fn refusal(text: &str) -> UrlError {
    text.parse::<DatabaseUrl>().unwrap_err()
}

fn value(name: &str, expected: &'static str) -> UrlError {
    UrlError::Value {
        name: name.to_owned(),
        expected,
    }
}

/// Reads `text` as if the environment had nothing but `variables`.
fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<DatabaseUrl, UrlError> {
    let variable = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| *name == wanted)?;
        Some(found.1.to_owned())
    };
    Parts::read(text, &variable)?.resolve()
}

/// The name in a refusal, and what it says to do.
fn refused_name(error: UrlError) -> (String, &'static str) {
    match error {
        UrlError::Unsupported { name, remedy } => (name, remedy),
        other => panic!("{other}"),
    }
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
        (
            "postgresql://h/d?port=x",
            value("port", "a number between 1 and 65535"),
        ),
        ("postgresql://u@::1:6501/d", UrlError::NoBrackets),
        ("postgresql://u@::1/d", UrlError::NoBrackets),
        (
            "postgresql://2001:db8:1:2:3:4:5:6:5432/d",
            UrlError::NoBrackets,
        ),
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
            value(
                "sslmode",
                "disable, allow, prefer, require, verify-ca or verify-full",
            ),
        ),
        (
            "postgresql://h/d?hostaddr=h2",
            value("hostaddr", "an address, not a name"),
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
        ("sslmode=allow", PgSslMode::Prefer),
        ("sslrootcert=system", PgSslMode::VerifyFull),
        (
            "sslmode=verify-full&hostaddr=127.0.0.1&host=127.0.0.1",
            PgSslMode::VerifyFull,
        ),
        (
            "sslmode=require&host=/var/run/postgresql",
            PgSslMode::Disable,
        ),
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
         &options=-c%20statement_timeout%3D5s&connect_timeout=3&target_session_attrs=any&port=7777&user=u&dbname=e",
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
        ["prepared_statement_cache_size", "connect_timeout"]
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

/// Every parameter in the documentation of libpq 18.
const LIBPQ: &str = "host hostaddr port dbname user password passfile require_auth channel_binding \
    connect_timeout client_encoding options application_name fallback_application_name keepalives \
    keepalives_idle keepalives_interval keepalives_count tcp_user_timeout replication gssencmode \
    sslmode requiressl sslnegotiation sslcompression sslcert sslkey sslkeylogfile sslpassword \
    sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer ssl_min_protocol_version \
    ssl_max_protocol_version min_protocol_version max_protocol_version krbsrvname gsslib \
    gssdelegation scram_client_key scram_server_key service servicefile target_session_attrs \
    load_balance_hosts oauth_issuer oauth_client_id oauth_client_secret oauth_scope";

#[test]
fn every_parameter_of_libpq_is_honoured_refused_or_shown() {
    for name in LIBPQ.split_whitespace() {
        assert!(parameters::row(name).is_some(), "{name}");
    }
    let mut names: Vec<_> = parameters::TABLE.iter().map(|row| row.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "a parameter stands twice");
    for row in parameters::TABLE {
        let read =
            |value: &str| parse_with(&format!("postgresql://u@h/d?{}={value}", row.name), &[]);
        match &row.fate {
            Fate::Ignored => assert_eq!(read("x").unwrap().ignored(), [row.name]),
            Fate::Refused { except, remedy } => {
                let named = (row.name.to_owned(), *remedy);
                assert_eq!(refused_name(read("x").unwrap_err()), named);
                for harmless in *except {
                    let url = read(harmless).unwrap();
                    assert!(url.ignored().is_empty(), "{}={harmless}", row.name);
                }
            }
            Fate::Honoured(_) => {}
        }
    }
}

#[test]
fn what_guards_the_way_or_names_another_server_is_refused_by_name() {
    for name in [
        "target_session_attrs=read-write",
        "channel_binding=require",
        "require_auth=scram-sha-256",
        "service=shop",
        "sslcrl=/etc/crl.pem",
        "gssencmode=require",
        "sslnegotiation=direct",
        "ssl_min_protocol_version=TLSv1.3",
        "replication=database",
        "currentSchema=shop",
    ] {
        let error = refusal(&format!("postgresql://u@h/d?{name}"));
        let text = error.to_string();
        let (name, _) = name.split_once('=').unwrap();
        assert_eq!(refused_name(error).0, name);
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn an_unknown_parameter_is_refused_with_the_nearest_name() {
    let unknown = |name: &str, nearest| UrlError::Unknown {
        name: Some(name.to_owned()),
        nearest,
    };
    for (typed, nearest) in [
        ("sslmod", Some("sslmode")),
        ("SSLMODE", Some("sslmode")),
        ("aplication_name", Some("application_name")),
        ("frobnicate", None),
    ] {
        let error = refusal(&format!("postgresql://u:pw@h/d?{typed}=require"));
        assert_eq!(error, unknown(typed, nearest));
    }
    assert_eq!(
        refusal("postgresql://u@h/d?sslmod=require").to_string(),
        "unknown parameter `sslmod`: did you mean `sslmode`?"
    );
    // The rest of a password whose `&` is not encoded looks like a parameter.
    let error = refusal("postgresql://u@h/d?password=12&s3cret");
    assert_eq!(error.to_string().matches("s3cret").count(), 0, "{error}");
}

#[test]
fn a_variable_of_libpq_stands_in_for_a_parameter_that_the_url_has_not() {
    let url = "postgresql://h/d";
    let read = parse_with(
        url,
        &[("PGUSER", "someone"), ("PGPORT", "7"), ("PGHOST", "x")],
    )
    .unwrap();
    assert_eq!((read.user(), read.host(), read.port()), ("someone", "h", 7));
    let read = parse_with("postgresql://", &[("PGHOST", "x"), ("PGDATABASE", "y")]).unwrap();
    assert_eq!((read.host(), read.database()), ("x", Some("y")));

    for (variable, text) in [
        ("PGSERVICE", "shop"),
        ("PGCHANNELBINDING", "require"),
        ("PGTARGETSESSIONATTRS", "primary"),
    ] {
        let error = parse_with(url, &[(variable, text)]).unwrap_err();
        assert_eq!(refused_name(error).0, variable);
    }
    // sqlx itself takes a word that it does not know for `prefer`.
    let error = parse_with(url, &[("PGSSLMODE", "verify_full")]).unwrap_err();
    assert!(error.to_string().contains("PGSSLMODE"), "{error}");
    let error = parse_with(url, &[("PGPORT", "five")]).unwrap_err();
    assert!(error.to_string().contains("PGPORT"), "{error}");
    // The URL has the last word.
    for (parameter, variable) in [
        ("sslmode=disable", ("PGSSLMODE", "nonsense")),
        (
            "target_session_attrs=any",
            ("PGTARGETSESSIONATTRS", "primary"),
        ),
    ] {
        parse_with(&format!("{url}?{parameter}"), &[variable]).unwrap();
    }
}

#[test]
fn without_a_user_it_is_the_operating_systems_and_so_is_the_database() {
    let me = system_user().unwrap();
    let url = parse_with("postgresql:///shop?host=/tmp", &[]).unwrap();
    assert_eq!((url.user(), url.database()), (me.as_str(), Some("shop")));
    let url = parse_with("postgresql://?host=/tmp", &[]).unwrap();
    assert_eq!(url.database(), None);
    assert_eq!(url.options().get_database(), Some(me.as_str()));
}

#[test]
fn an_address_is_not_believed_in_the_place_of_a_name() {
    let place = "postgresql://u@/d?host=localhost&hostaddr=127.0.0.1";
    let (name, _) = refused_name(refusal(&format!("{place}&sslmode=verify-full")));
    assert_eq!(name, "hostaddr");
    assert_eq!(
        parse(&format!("{place}&sslmode=require")).host(),
        "127.0.0.1"
    );
}

#[test]
fn a_setting_that_the_driver_overrules_is_refused() {
    for options in [
        "-c timezone=Europe/Berlin",
        "-cTimeZone=Europe/Berlin",
        "--timezone=Europe/Berlin",
        "-c geqo=off -c DateStyle=German",
        "-c client_encoding=LATIN1",
    ] {
        let encoded = encode(options);
        let error = refusal(&format!("postgresql://u@h/d?options={encoded}"));
        assert_eq!(refused_name(error).0, "options", "{options}");
    }
    for options in [
        "-c timezone=UTC",
        "-c search_path=a\\ -c\\ timezone=x",
        "-c log_timezone=Europe/Berlin",
    ] {
        let url = parse(&format!("postgresql://u@h/d?options={}", encode(options)));
        assert_eq!(url.options().get_options(), Some(options));
    }
    let url = parse("postgresql://u@h/d?options[search_path]=a%20b&options[geqo]=off");
    let options = url.options();
    assert_eq!(
        options.get_options(),
        Some("-c search_path=a\\ b -c geqo=off")
    );
}

#[test]
fn certificates_are_looked_at_before_they_are_needed() {
    let dir = std::env::temp_dir().join(format!("poolproof-url-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = file(
        "key",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
    );
    let locked = file("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
    let cert = file(
        "cert",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    );
    let (key, locked, cert) = (key.display(), locked.display(), cert.display());
    for (parameters, says) in [
        (
            "sslmode=verify-ca&sslrootcert=/no/such.pem".to_owned(),
            "/no/such.pem of `sslrootcert`",
        ),
        (
            format!("sslmode=verify-full&sslrootcert={key}"),
            "holds no certificate",
        ),
        (
            format!("sslcert={cert}&sslkey={locked}"),
            "without a passphrase",
        ),
        (format!("sslcert={cert}"), "sslkey"),
        (format!("sslkey={key}"), "sslcert"),
        (
            "sslrootcert=system&sslmode=require".to_owned(),
            "verify-full",
        ),
    ] {
        let error = refusal(&format!("postgresql://u@h/d?{parameters}"));
        assert!(error.to_string().contains(says), "{parameters}: {error}");
    }
    // As in libpq, a root certificate makes `require` look at it.
    let url = parse(&format!(
        "postgresql://u@h/d?sslmode=require&sslrootcert={cert}"
    ));
    assert!(matches!(
        url.options().get_ssl_mode(),
        sqlx::postgres::PgSslMode::VerifyCa
    ));
    std::fs::remove_dir_all(dir).unwrap();
}
