//! Names with several addresses, on loopback; what is for good and what may pass, by a table.

use std::error::Error as StdError;
use std::future::{pending, ready};

use tokio::net::{TcpListener, TcpSocket};

use super::*;

/// An address that accepts.
async fn answering() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that says nothing: the one place in its queue is taken, and further packets are dropped.
async fn silent() -> (TcpListener, TcpStream, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let taken = TcpStream::connect(address).await.unwrap();
    (listener, taken, address)
}

/// An address where nobody listens.
async fn refusing() -> SocketAddr {
    answering().await.1
}

#[tokio::test]
async fn a_silent_address_is_passed_by_where_another_one_answers() {
    let (_queue, _taken, silent) = silent().await;
    let (_listener, answering) = answering().await;
    let refusing = refusing().await;
    for (addresses, chosen) in [
        (vec![silent, answering], Some(answering)),
        (vec![answering, silent], Some(answering)),
        (vec![silent, refusing, answering], Some(answering)),
        // sqlx finds these by itself, and is merely slow.
        (vec![refusing, answering], None),
        (vec![answering, answering], None),
        // There is nothing better to do.
        (vec![silent, refusing], None),
        (vec![silent], None),
        (vec![], None),
    ] {
        assert_eq!(beside_silent(&addresses).await, chosen, "{addresses:?}");
    }
}

#[tokio::test]
async fn the_usual_way_that_meets_silence_is_left_for_an_address_that_answers() {
    let (_queue, _taken, silent) = silent().await;
    let (_listener, answering) = answering().await;
    let usual = async {
        TcpStream::connect(silent).await?;
        Ok(silent)
    };
    let opened = past_silence(usual, ready(Ok(vec![silent, answering])), async |address| {
        Ok(address)
    });
    assert_eq!(opened.await.unwrap(), answering);
}

#[tokio::test]
async fn the_usual_way_is_waited_for_where_nothing_better_is_known() {
    tokio::time::pause();
    let unknown = || ready(Err(io::ErrorKind::NotFound.into()));
    let usual = async {
        let slow = timeout(SILENCE_MAX * 4, pending::<()>()).await;
        assert!(slow.is_err());
        Ok(1)
    };
    let opened = past_silence(usual, unknown(), async |_| panic!("no address is known"));
    assert_eq!(opened.await.unwrap(), 1);
    let quick = past_silence(ready(Ok(2)), pending(), async |_| panic!("it was quick"));
    assert_eq!(quick.await.unwrap(), 2);
}

#[test]
fn what_cannot_help_is_not_tried_again() {
    let tcp = PgConnectOptions::new_without_pgpass().host("db.shop");
    let local = PgConnectOptions::new_without_pgpass().host("/run/postgresql");
    let io = |kind, text: &'static str| -> sqlx::Error { io::Error::new(kind, text).into() };
    let boxed = |text: &'static str| -> Box<dyn StdError + Send + Sync> { text.into() };
    let certificate = "could not connect: invalid peer certificate: UnknownIssuer";
    for (error, permanent) in [
        (sqlx::Error::Configuration(boxed("no such key")), true),
        (sqlx::Error::Tls(boxed("server does not support TLS")), true),
        (io(io::ErrorKind::InvalidData, certificate), true),
        (io(io::ErrorKind::NotFound, "root.crt"), true),
        (io(io::ErrorKind::PermissionDenied, "client.key"), true),
        (io(io::ErrorKind::InvalidData, "a corrupt message"), false),
        (io(io::ErrorKind::ConnectionRefused, ""), false),
        (io(io::ErrorKind::ConnectionReset, ""), false),
        (io(io::ErrorKind::TimedOut, ""), false),
        (
            io(io::ErrorKind::Other, "temporary failure in name resolution"),
            false,
        ),
        (sqlx::Error::Protocol("no such message".to_owned()), false),
        (sqlx::Error::WorkerCrashed, false),
    ] {
        assert_eq!(is_permanent(&error, &tcp), permanent, "{error}");
    }
    for kind in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied] {
        assert!(!is_permanent(&io(kind, "a socket"), &local), "{kind}");
    }
}

/// What each code comes to on a real server is in `tests/postgres/connecting.rs`.
#[test]
fn answers_are_for_good_or_may_pass() {
    for (code, message) in [
        ("28000", ""),
        ("28P01", ""),
        ("3D000", ""),
        ("42501", ""),
        ("55000", ""),
        ("42704", ""),
        ("22023", ""),
        ("55P02", ""),
        ("42601", ""),
        ("0A000", ""),
        ("08P01", "unsupported startup parameter: options"),
        ("08P01", "no such database: shop"),
        ("08P01", "no such user: app"),
        ("08P01", "password authentication failed"),
        ("08P01", "SSL required"),
    ] {
        assert!(is_permanent_answer(code, message), "{code} {message}");
    }
    for (code, message) in [
        ("57P03", "the database system is starting up"),
        ("57P01", ""),
        ("53300", "sorry, too many clients already"),
        ("53000", ""),
        ("08006", ""),
        ("08P01", "query_wait_timeout"),
        ("08P01", "server login has been failing, try again later"),
        ("58030", ""),
        ("XX000", ""),
        ("", ""),
    ] {
        assert!(!is_permanent_answer(code, message), "{code} {message}");
    }
}
