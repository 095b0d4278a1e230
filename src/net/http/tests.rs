//! Settings, failures and their words; over TLS against servers with every kind of certificate.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::*;
use crate::net::tls::made::{Made, Order, ca, ec, leaf, make, rsa};

fn settings(base: &str) -> Settings {
    let timeout = Duration::from_secs(5);
    Settings {
        base: base.into(),
        verify: true,
        ca: None,
        own: None,
        proxy: None,
        connect_timeout: timeout,
        timeout,
        body_max: 10,
        idle_connections: 1,
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn wrong_settings_are_told_before_anybody_connects() {
    let wrong = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings("https://misp.example");
        change(&mut settings);
        Client::new(&settings).unwrap_err().to_string()
    };
    assert_eq!(wrong(&|s| s.base = "misp".into()), "url \"misp\" is none: relative URL without a base");
    let gone = wrong(&|s| s.ca = Some("/nowhere/ca.pem".into()));
    assert!(gone.starts_with("tls.ca /nowhere/ca.pem: cannot be read: No such file"), "{gone}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().to_owned();
    assert!(wrong(&|s| s.ca = Some(path.clone())).contains("holds no certificate; give a PEM file"));
}

#[test]
fn nobody_there_is_away_and_its_text_holds_no_secret() {
    let error = run(async {
        let client = Client::new(&settings("http://127.0.0.1:9")).unwrap();
        let key = Secret::new("sesame".into());
        client.call(Call { path: "/".into(), json: None }, &[("Authorization", &key)]).await.unwrap_err()
    });
    assert!(matches!(&error, HttpError::Away(text) if text.starts_with("cannot connect to http://127.0.0.1:9: ")), "{error:?}");
    assert!(!format!("{error:?}{error}").contains("sesame"));
}

#[test]
fn a_key_with_a_line_end_inside_is_a_matter_of_settings() {
    let error = run(async {
        let client = Client::new(&settings("http://127.0.0.1:9")).unwrap();
        client.call(Call { path: "/".into(), json: None }, &[("Authorization", &Secret::new("a\nb".into()))]).await.unwrap_err()
    });
    assert!(matches!(error, HttpError::Settings(_)), "{error:?}");
}

/// A server with TLS that answers 200 and `{}` to anything.
///
/// - `chain`: its certificate and intermediates; the first one's key is its own.
/// - `clients`: the CA of those who may come; `None`: everybody.
fn server(chain: &[&Made], clients: Option<&Made>) -> SocketAddr {
    use_ring();
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(ca.der())).unwrap();
            ServerConfig::builder().with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
    };
    let certificates = chain.iter().map(|made| CertificateDer::from(made.der())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(chain[0].key_der()));
    let config = Arc::new(builder.with_single_cert(certificates, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut connection = ServerConnection::new(config).unwrap();
                let mut tls = rustls::Stream::new(&mut connection, &mut stream);
                let mut request = Vec::new();
                let mut part = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match tls.read(&mut part) {
                        Ok(n) if n > 0 => request.extend_from_slice(&part[..n]),
                        // What a client still sends must be read, or the alert is lost with the connection.
                        _ => {
                            let _ = std::io::copy(&mut stream, &mut std::io::sink());
                            return;
                        }
                    }
                }
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
                let _ = tls.flush();
            });
        }
    });
    address
}

/// Certificates valid today, for this host.
fn today(order: Order) -> Order {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    Order { now: i64::try_from(now).unwrap(), ..order }
}
fn for_us(order: Order) -> Order {
    today(Order { names: &["localhost", "127.0.0.1"], ..order })
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn call(settings: &Settings) -> Result<Reply, HttpError> {
    run(async { Client::new(settings)?.call(Call { path: "/".into(), json: None }, &[]).await })
}

fn https(address: SocketAddr, ca: &Made) -> (Settings, tempfile::NamedTempFile) {
    let ca = file(&ca.pem());
    (Settings { ca: Some(ca.path().to_owned()), ..settings(&format!("https://{address}")) }, ca)
}

/// Refused as a matter of settings, in one line with these parts and a remedy.
#[track_caller]
fn check_refused(settings: &Settings, parts: &[&str]) {
    let error = call(settings).unwrap_err();
    let HttpError::Settings(text) = &error else { panic!("{error:?}") };
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in {text}"));
    assert!(text.starts_with(&settings.base) && text.contains("; ") && !text.contains('\n'), "{text}");
}

#[test]
fn a_server_that_its_ca_vouches_for_answers_over_tls() {
    for key in [rsa, ec] {
        let root = make(&today(ca("root")), key(), None);
        let middle = make(&today(ca("middle")), key(), Some(&root));
        let direct = make(&for_us(leaf("direct")), key(), Some(&root));
        let via = make(&for_us(leaf("via")), key(), Some(&middle));
        for chain in [&[&direct][..], &[&via, &middle]] {
            let address = server(chain, None);
            for base in [format!("https://{address}"), format!("https://localhost:{}", address.port())] {
                let (settings, _ca) = https(address, &root);
                let reply = call(&Settings { base, ..settings }).unwrap();
                assert_eq!((reply.status, reply.body.as_slice()), (200, &b"{}"[..]));
            }
        }
    }
}

#[test]
fn a_server_that_cannot_be_trusted_is_refused_with_what_to_do() {
    let root = make(&today(ca("root")), ec(), None);
    let stranger = make(&today(ca("stranger")), ec(), None);
    let of = |order: Order| make(&order, ec(), Some(&root));
    let good = of(for_us(leaf("good")));
    let rows = [
        (&good, &stranger, &["nobody that we know vouches for its certificate", "UnknownIssuer", "; name its CA in tls.ca"][..]),
        (&of(Order { to: -3, from: -10, ..for_us(leaf("old")) }), &root, &["its certificate is expired", "have it renewed there"]),
        (&of(Order { from: 2, ..for_us(leaf("new")) }), &root, &["its certificate is not valid yet", "; set the clock of this host right"]),
        (
            &of(today(Order { names: &["other.example"], ..leaf("other") })),
            &root,
            &["its certificate has another name", "127.0.0.1", "other.example", "; use a name in url"],
        ),
        (&of(today(leaf("nameless"))), &root, &["its certificate has another name"]),
        (&make(&for_us(leaf("alone")), ec(), None), &root, &["its certificate", "tls.ca"]),
    ];
    for (own, ca, parts) in rows {
        let (settings, _ca) = https(server(&[own], None), ca);
        check_refused(&settings, parts);
        // Who says so takes them all.
        assert_eq!(call(&Settings { verify: false, ca: None, ..settings }).unwrap().status, 200);
    }
    // The system's CAs know nothing of ours.
    let address = server(&[&good], None);
    check_refused(&settings(&format!("https://{address}")), &["nobody that we know vouches for its certificate"]);
}

#[test]
fn a_server_that_wants_our_certificate_gets_it() {
    let root = make(&today(ca("root")), ec(), None);
    let address = server(&[&make(&for_us(leaf("server")), ec(), Some(&root))], Some(&root));
    let (settings, _ca) = https(address, &root);
    let with = |own: &Made| {
        let files = (file(&own.pem()), file(&own.key_pem()));
        let settings = Settings { own: Some((files.0.path().to_owned(), files.1.path().to_owned())), ..settings.clone() };
        (settings, files)
    };
    let ours = make(&today(leaf("agent")), ec(), Some(&root));
    let (good, _files) = with(&ours);
    assert_eq!(call(&good).unwrap().status, 200);
    let wanted = "it wants a client's certificate and got none, or one that it does not take";
    check_refused(&settings, &[wanted, "; see tls.cert and tls.key"]);
    let (bad, _files) = with(&make(&today(leaf("nobody")), ec(), None));
    check_refused(&bad, &[wanted]);

    let cannot = |own: (PathBuf, PathBuf)| Client::new(&Settings { own: Some(own), ..settings.clone() }).unwrap_err().to_string();
    let gone = cannot(("/nowhere/cert".into(), "/nowhere/key".into()));
    assert!(gone.starts_with("tls.cert /nowhere/cert: cannot be read: No such file"), "{gone}");
    let (cert, key) = (file(&ours.pem()), file(b"no key"));
    let none = cannot((cert.path().to_owned(), key.path().to_owned()));
    assert!(none.contains("with tls.key") && none.contains("; give PEM files"), "{none}");
}

#[test]
fn a_port_that_does_not_speak_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    check_refused(&settings(&format!("https://{address}")), &["it does not speak TLS", "; use http:// or another port"]);
}
