//! The registry: creating, populating, listening, and what is refused.

use poolproof_faults::{
    Proxies, ProxyError, ProxyPatch, ProxySpec, Stream, Toxic, ToxicError, ToxicSpec,
};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Bench, PG, ping_pong};

fn spec(name: &str, listen: Option<&str>) -> ProxySpec {
    ProxySpec {
        listen: listen.map(str::to_owned),
        ..ProxySpec::local(name, "127.0.0.1:1")
    }
}

#[tokio::test]
async fn listen_addresses_are_resolved_once_started() {
    let proxies = Proxies::new(1);
    let listen = async |name, listen| {
        let view = proxies.create(spec(name, listen)).await.unwrap();
        assert!(
            TcpStream::connect(&view.listen).await.is_ok(),
            "{}",
            view.listen
        );
        view.listen
    };
    assert!(
        listen("local", Some("127.0.0.1:0"))
            .await
            .starts_with("127.0.0.1:")
    );
    assert!(
        listen("name", Some("localhost:0"))
            .await
            .starts_with("127.0.0.1:")
    );
    // A machine without IPv6 has 0.0.0.0 for "every interface".
    let any = |listen: String| listen.starts_with("[::]:") || listen.starts_with("0.0.0.0:");
    assert!(any(listen("missing", None).await));
    assert!(any(listen("empty", Some("")).await));
    assert!(any(listen("port", Some(":0")).await));
    for view in proxies.list().await.unwrap() {
        assert!(!view.listen.ends_with(":0"), "{}", view.listen);
    }
}

#[tokio::test]
async fn every_interface_includes_ipv4() {
    let bench = Bench::start().await;
    let upstream = bench.server.local_addr().unwrap().to_string();
    let any = ProxySpec {
        listen: None,
        ..ProxySpec::local("any", upstream)
    };
    let view = bench.proxies.create(any).await.unwrap();
    let (_, port) = view.listen.rsplit_once(':').unwrap();
    let mut client = TcpStream::connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let (mut server, _) = bench.server.accept().await.unwrap();
    ping_pong((&mut client, &mut server)).await;
}

#[tokio::test]
async fn a_disabled_proxy_keeps_its_listen_address_as_written_until_it_starts() {
    let proxies = Proxies::new(1);
    let disabled = ProxySpec {
        enabled: false,
        ..spec(PG, Some("localhost:0"))
    };
    let view = proxies.create(disabled).await.unwrap();
    assert_eq!((view.enabled, view.listen.as_str()), (false, "localhost:0"));
    let view = proxies.enable(PG).await.unwrap();
    assert!(view.listen.starts_with("127.0.0.1:"), "{}", view.listen);
    let again = proxies.disable(PG).await.unwrap();
    assert_eq!(again.listen, view.listen, "the port stays its own");
}

#[tokio::test]
async fn a_port_that_is_taken_creates_nothing() {
    let proxies = Proxies::new(1);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = proxies.create(spec(PG, Some(&address))).await.unwrap_err();
    let ProxyError::Bind { listen, source } = error else {
        panic!("{error:?}");
    };
    assert_eq!(listen, address);
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
    let error = proxies.get(PG).await.unwrap_err();
    assert!(matches!(error, ProxyError::NotFound { .. }), "{error:?}");
    assert!(matches!(
        proxies.stats(PG),
        Err(ProxyError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_listen_address_that_is_none_is_refused() {
    let proxies = Proxies::new(1);
    for bad in ["5432", "localhost", "127.0.0.1:port", "127.0.0.1:65536"] {
        let error = proxies.create(spec(PG, Some(bad))).await.unwrap_err();
        assert!(
            matches!(&error, ProxyError::Resolve { listen, .. } if listen == bad),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_failed_move_leaves_the_proxy_disabled_at_its_new_address() {
    let bench = Bench::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let patch = ProxyPatch {
        listen: Some(address.clone()),
        ..ProxyPatch::default()
    };
    let error = bench.proxies.update(PG, patch).await.unwrap_err();
    assert!(matches!(error, ProxyError::Bind { .. }), "{error:?}");
    let view = bench.proxies.get(PG).await.unwrap();
    assert_eq!((view.enabled, &view.listen), (false, &address));
    drop(taken);
    assert!(bench.proxies.enable(PG).await.unwrap().enabled);
}

#[tokio::test]
async fn names_are_unique_and_needed() {
    let bench = Bench::start().await;
    let error = bench.proxies.create(spec(PG, None)).await.unwrap_err();
    assert!(
        matches!(error, ProxyError::AlreadyExists { .. }),
        "{error:?}"
    );
    let error = bench.proxies.create(spec("", None)).await.unwrap_err();
    assert_eq!(error.to_string(), "use a proxy without \"name\"");
    let patch = ProxyPatch {
        upstream: Some(String::new()),
        ..ProxyPatch::default()
    };
    let error = bench.proxies.update(PG, patch).await.unwrap_err();
    assert_eq!(error.to_string(), "use a proxy without \"upstream\"");
}

#[tokio::test]
async fn populate_keeps_what_is_the_same_enables_it_and_replaces_what_differs() {
    let bench = Bench::start().await;
    let noop = ToxicSpec::new(Toxic::Noop, Stream::Upstream);
    bench.proxies.add_toxic(PG, noop).await.unwrap();
    let (mut client, mut server) = bench.link().await;
    let upstream = bench.server.local_addr().unwrap().to_string();
    let same = ProxySpec {
        listen: Some(bench.listen.clone()),
        ..ProxySpec::local(PG, upstream)
    };
    let views = bench.proxies.populate(vec![same.clone()]).await.unwrap();
    assert_eq!(views[0].toxics.len(), 1, "its toxics stay");
    ping_pong((&mut client, &mut server)).await;

    bench.proxies.disable(PG).await.unwrap();
    let views = bench.proxies.populate(vec![same.clone()]).await.unwrap();
    assert!(views[0].enabled);
    assert_eq!(views[0].toxics.len(), 1);

    let differs = ProxySpec {
        upstream: "127.0.0.1:2".to_owned(),
        ..same
    };
    let views = bench.proxies.populate(vec![differs]).await.unwrap();
    assert_eq!(
        (views[0].upstream.as_str(), views[0].toxics.len()),
        ("127.0.0.1:2", 0)
    );
    assert_eq!(views[0].listen, bench.listen);
}

#[tokio::test]
async fn populate_creates_nothing_when_one_is_invalid_and_stops_where_one_fails() {
    let proxies = Proxies::new(1);
    let error = proxies
        .populate(vec![spec("a", None), spec("", None)])
        .await
        .unwrap_err();
    assert!(matches!(
        error.cause,
        ProxyError::MissingField {
            field: "name",
            position: Some(2)
        }
    ));
    assert_eq!(proxies.list().await.unwrap(), []);

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let list = vec![spec("a", None), spec("b", Some(&address)), spec("c", None)];
    let error = proxies.populate(list).await.unwrap_err();
    assert!(matches!(error.cause, ProxyError::Bind { .. }), "{error:?}");
    assert_eq!(error.to_string(), "create all proxies of the list, 1 done");
    let names: Vec<String> = proxies
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|v| v.name)
        .collect();
    assert_eq!(names, ["a"]);
}

#[tokio::test]
async fn a_deleted_proxy_is_gone_and_its_port_is_free() {
    let bench = Bench::start().await;
    bench.proxies.delete(PG).await.unwrap();
    TcpListener::bind(&bench.listen).await.unwrap();
    let error = bench.proxies.delete(PG).await.unwrap_err();
    assert_eq!(error.to_string(), "find proxy \"pg\"");
    let spec = ToxicSpec::new(Toxic::Noop, Stream::Upstream);
    let error = bench.proxies.add_toxic(PG, spec).await.unwrap_err();
    assert!(
        matches!(error, ToxicError::ProxyNotFound { .. }),
        "{error:?}"
    );
    let error = bench.proxies.reset_links(PG).unwrap_err();
    assert!(matches!(error, ProxyError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn reset_starts_disabled_proxies() {
    let bench = Bench::start().await;
    bench.proxies.disable(PG).await.unwrap();
    bench.proxies.reset().await.unwrap();
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
}
