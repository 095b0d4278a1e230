//! Who may do what, from where; and what nobody may.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::TcpStream,
    os::unix::fs::symlink,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    super::{
        routes,
        table::{Brings, May},
    },
    harness::{KEYS, Reply, Server, Wish, name},
};
use crate::{
    api::access::{Rate, Role, keys},
    net::acceptor::Files,
};

#[test]
fn each_role_opens_its_own_routes_and_no_others() {
    let server = Server::start(Wish::default());
    for route in routes::all() {
        let path = route.path.replace("{id}", "worker-a").replace("{name}", "x");
        let ask = |key: &str| {
            let media = if matches!(route.brings, Brings::Bytes) { "application/x-none" } else { "application/json" };
            // A body that no route takes: who is let in gets as far as that, and nothing is changed.
            let body: Option<&[u8]> = (!matches!(route.brings, Brings::Nothing)).then_some(b"!");
            server.raw(key, route.verb.word(), &path, media, body, "")
        };
        let changes_much = matches!(route.brings, Brings::Nothing) && route.verb.word() != "GET";
        for (key, role, _) in KEYS {
            let roles: Vec<Role> = role.split(',').filter_map(Role::of).collect();
            let may = roles.contains(&Role::Admin)
                || match route.may {
                    May::Anybody => true,
                    May::Has(role) => roles.contains(&role),
                    May::Own => key == "worker-a",
                };
            if may && changes_much {
                continue;
            }
            let reply = ask(key);
            let is_refused = reply.status == 403;
            assert_eq!(!is_refused, may, "{key} {} {path}: {}", route.verb.word(), reply.status);
        }
        let nobody = ask("");
        assert_eq!(nobody.status == 401, route.may != May::Anybody, "{path}: {}", nobody.status);
        if nobody.status == 401 {
            assert_eq!(nobody.code(), "no_key");
            assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        }
    }
}

#[test]
fn what_is_open_tells_no_more_than_it_must() {
    let server = Server::start(Wish::default());
    let root = server.ask("", "GET", "/", None).json();
    // Their order is another one where yara-x is built in, which asks serde_json to keep it.
    let members: BTreeSet<&str> = root.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["documentation", "name", "version"]));
    let health = server.ask("", "GET", "/health", None);
    assert_eq!((health.status, health.json()), (200, json!({"status": "healthy"})));
    assert!(server.ask("viewer", "GET", "/health", None).json()["scan"]["checks"].is_object());
    assert_eq!(server.raw("", "GET", "/", "", None, "Accept: text/html\r\n").headers["content-type"], "application/json");
    assert!(server.raw("viewer", "GET", "/", "", None, "Accept: text/html\r\n").headers["content-type"].starts_with("text/html"));
    // A key in the address is no key.
    let key = KEYS[0].2;
    assert_eq!(server.ask("", "GET", &format!("/status?api_key={key}"), None).status, 401);
}

#[test]
fn nothing_outside_a_root_is_told_apart_or_touched() {
    let server = Server::start(Wish::default());
    let outside = server.dir.path().join("secret/shadow");
    server.file("in/good.txt", b"fine");
    let zeek = server.dir.path().join("zeek");
    symlink(&outside, zeek.join("link")).unwrap();
    symlink("/nowhere/at/all", zeek.join("dangling")).unwrap();
    symlink(server.dir.path().join("secret"), zeek.join("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(zeek.join("pipe")).status().unwrap().success());
    let (there, not_there) = (name(&outside), name(&server.dir.path().join("secret/none")));
    let refused = [
        there.as_str(),
        &not_there,
        "/etc/passwd",
        "/etc/none",
        "../secret/shadow",
        "../secret/none",
        "in/../../secret/shadow",
        "in/../good.txt",
        "link",
        "dangling",
        "folder/shadow",
        "folder/none",
        "folder",
    ];
    let mut answers = std::collections::BTreeSet::new();
    for path in refused {
        for route in ["/scan", "/distributed/scan"] {
            let reply = server.ask("submitter", "POST", route, Some(&json!({"file_path": path})));
            assert_eq!((reply.status, reply.code().as_str()), (403, "path_not_allowed"), "{route} {path}");
            answers.insert(String::from_utf8(reply.bytes).unwrap());
        }
    }
    assert_eq!(answers.len(), 1, "the same answer, whatever is there: {answers:?}");
    for root in ["upload", "none", "zeek/../other"] {
        let reply = server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": "x", "root": root})));
        assert_eq!(reply.status, 403, "{root}");
    }
    let odd = [("pipe", 422, "not_a_file"), ("none", 404, "not_found"), ("in", 422, "not_a_file"), ("in/good.txt/x", 404, "not_found")];
    for (path, status, code) in odd {
        let begun = Instant::now();
        let reply = server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": path})));
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}");
    }
    assert_eq!(server.scan.tasks.figures().since_start.submitted, 0);
}

#[test]
fn exports_go_nowhere_else() {
    let server = Server::start(Wish::default());
    let ask =
        |name: &str, format: &str| server.ask("admin", "POST", "/monitoring/export", Some(&json!({"file_path": name, "format": format})));
    for (name, format) in [("a.json", "json"), ("a.csv", "csv"), ("a.prom", "prometheus")] {
        assert_eq!(ask(name, format).status, 200);
    }
    assert_eq!(ask("a.csv", "csv").code(), "file_exists");
    for name in ["/tmp/x", "../x", "a/b", ".x", "", "a\u{0}", "ä"] {
        assert_eq!(ask(name, "json").status, 422, "{name:?}");
    }
    assert_eq!(ask("b", "xml").status, 422);
    let mut names: Vec<_> = fs::read_dir(server.dir.path().join("export")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.csv", "a.json", "a.prom"]);
}

#[test]
fn refused_and_changing_calls_are_in_the_audit_and_keys_are_not() {
    let server = Server::start(Wish::default());
    server.file("a", b"x");
    assert_eq!(
        server.ask("submitter", "POST", "/distributed/scan", Some(&json!({"file_path": "a", "metadata": {"note": "body-word"}}))).status,
        200
    );
    assert_eq!(server.ask("viewer", "POST", "/scanner/stop", None).status, 403);
    assert_eq!(server.ask("", "GET", "/audit?after=query-word", None).status, 401);
    assert_eq!(server.raw("", "GET", "/status", "", None, "X-API-Key: wrong-key-77777777\r\n").status, 401);
    assert_eq!(server.ask("viewer", "GET", "/status", None).status, 200);
    let entries = server.audit(4);
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e["key"].as_str(), e["method"].as_str().unwrap(), e["path"].as_str().unwrap(), e["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            (Some("submitter"), "POST", "/distributed/scan", 200),
            (Some("viewer"), "POST", "/scanner/stop", 403),
            (None, "GET", "/audit", 401),
            (None, "GET", "/status", 401),
        ]
    );
    let text = json!(entries).to_string();
    for secret in ["body-word", "query-word", "wrong-key", "key-of-"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(entries.iter().all(|e| e["address"] == "127.0.0.1" && e["request_id"].is_string() && e["time"].is_string()));
    let told = server.ask("admin", "GET", "/audit?limit=2", None).json();
    assert_eq!((&told["count"], &told["next"]), (&json!(2), &json!(2)));
    assert_eq!(server.ask("admin", "GET", "/audit?limit=1000&after=2", None).json()["entries"][0]["seq"], 3);
}

#[test]
fn guesses_and_floods_are_slowed() {
    let mut wish = Wish::default();
    wish.access.auth_failures = Rate { count: 3, per_s: 60 };
    wish.access.register_rate = Rate { count: 2, per_s: 60 };
    let server = Server::start(wish);
    let body = json!({"worker_id": "worker-a", "host": "127.0.0.1", "port": 8001, "instance_id": "1"});
    let register = || server.ask("worker-a", "POST", "/distributed/workers/register", Some(&body));
    assert_eq!([register().status, register().status], [200, 200]);
    let slow = register();
    assert_eq!((slow.status, slow.code().as_str()), (429, "too_many_requests"));
    let guess = || server.raw("", "GET", "/status", "", None, "Authorization: Bearer guess\r\n").status;
    assert_eq!([guess(), guess(), guess(), guess()], [401, 401, 401, 429]);
    let right = server.ask("viewer", "GET", "/status", None);
    let wait: u64 = right.headers["retry-after"].parse().unwrap();
    assert!(right.status == 429 && (1..=20).contains(&wait), "{wait}");
}

#[test]
fn without_keys_pages_of_strangers_get_nothing() {
    let mut wish = Wish { has_keys: false, ..Wish::default() };
    wish.access.cors_origins = vec!["https://soc.example".into()];
    let server = Server::start(wish);
    let raw = |method: &str, headers: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(format!("{method} /scanner/stop HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap();
        Reply::read(&mut stream)
    };
    assert_eq!(raw("POST", "Host: attacker.example\r\n").code(), "host_not_allowed");
    assert_eq!(raw("POST", "Host: 127.0.0.1\r\nOrigin: https://attacker.example\r\n").code(), "origin_not_allowed");
    assert_eq!(raw("POST", "Host: 127.0.0.1\r\nOrigin: null\r\n").status, 403);
    assert_eq!(raw("POST", "Host: localhost\r\nOrigin: https://soc.example\r\n").status, 200);
    let preflight =
        |origin: &str| raw("OPTIONS", &format!("Host: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"));
    let listed = preflight("https://soc.example");
    assert_eq!((listed.status, listed.headers["access-control-allow-origin"].as_str()), (204, "https://soc.example"));
    assert!(!listed.headers.contains_key("access-control-allow-credentials"));
    assert!(!preflight("https://attacker.example").headers.contains_key("access-control-allow-origin"));
}

#[test]
fn slow_clients_lose_their_connection_and_hold_up_nobody() {
    let server = Server::start(Wish::default());
    let address = server.address;
    let slow = |first: Vec<u8>, at_least: u64, at_most: u64| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let begun = Instant::now();
            stream.write_all(&first).unwrap();
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut byte = [0; 512];
            // A byte twice a second, for as long as it is taken.
            loop {
                match std::io::Read::read(&mut stream, &mut byte) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                        if stream.write_all(b" ").is_err() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
            let took = begun.elapsed().as_secs_f64();
            assert!((at_least as f64 - 1.0..at_most as f64).contains(&took), "{took} s");
        })
    };
    let key = KEYS[1].2;
    let head = slow(b"GET /status HTTP/1.1\r\nX-Slow:".to_vec(), 10, 15);
    let body = slow(
        format!("POST /distributed/scan HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n").into_bytes(),
        30,
        36,
    );
    // Nobody is let in without a key, and so gets no time for a body.
    let stranger = slow(
        b"POST /distributed/scan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n".to_vec(),
        1,
        15,
    );
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(server.ask("viewer", "GET", "/status", None).status, 200);
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
    [head, body, stranger].into_iter().for_each(|thread| thread.join().unwrap());
}

/// A CA with a server's and a client's certificate, as PEM in a folder.
fn certificates(dir: &std::path::Path) {
    let openssl = |args: &str| {
        let out = Command::new("openssl").args(args.split(' ')).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{args}: {}", String::from_utf8_lossy(&out.stderr));
    };
    fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca");
    for who in ["server", "client"] {
        openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        openssl(&format!("x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {who}.pem -days 2 -extfile san"));
        openssl(&format!("x509 -in {who}.pem -outform der -out {who}.der"));
    }
}

#[test]
fn tls_carries_keys_and_a_certificate_stands_for_one() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let at = |name: &str| dir.path().join(name);
    let digest = keys::hex(&keys::digest(&fs::read(at("client.der")).unwrap()));
    let (viewer, line) = (KEYS[0].2, format!("by-cert admin cert:{digest}\n"));
    fs::write(at("keys"), format!("{line}viewer viewer {}\n", keys::hex(&keys::digest(viewer.as_bytes())))).unwrap();
    fs::set_permissions(at("keys"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut wish = Wish { has_keys: false, listen: ([0, 0, 0, 0], 0).into(), ..Wish::default() };
    wish.access.keys_file = Some(at("keys"));
    wish.access.tls = Some(Files { cert: at("server.pem"), key: at("server.key"), client_ca: Some(at("ca.pem")) });
    let server = Server::start(wish);
    let ask = |has_certificate: bool, request: &str| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(at("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if has_certificate {
            let chain = vec![CertificateDer::from_pem_file(at("client.pem")).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(at("client.key")).unwrap()).unwrap()
        } else {
            config.with_no_client_auth()
        };
        let mut connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", server.address.port())).unwrap();
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        tls.write_all(request.as_bytes()).unwrap();
        Reply::read(&mut tls).status
    };
    let get = |path: &str, key: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}\r\n");
    assert_eq!(ask(false, &get("/status", "")), 401);
    assert_eq!(ask(false, &get("/status", &format!("Authorization: Bearer {viewer}\r\n"))), 200);
    assert_eq!(ask(false, &get("/audit", &format!("Authorization: Bearer {viewer}\r\n"))), 403);
    assert_eq!(ask(true, &get("/audit", "")), 200);
    // In the clear nothing is answered.
    let mut plain = TcpStream::connect(("127.0.0.1", server.address.port())).unwrap();
    plain.write_all(get("/", "").as_bytes()).unwrap();
    let mut text = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut text);
    assert!(!text.starts_with(b"HTTP"), "{text:?}");
}
