//! `beat::serve` over TLS: HTTP/2 by ALPN and HTTP/1.1, reqwest as the client; who does not speak TLS harms nobody.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Version;
use axum::routing::get;
use beat::serve::TlsListener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

struct Server {
    addr: SocketAddr,
    certificate: reqwest::Certificate,
    stop: oneshot::Sender<()>,
    end: beat::JoinHandle<std::io::Result<()>>,
}

/// A server whose answers say the protocol and the client's address; `protocols` is what it offers by ALPN.
async fn start(protocols: &[&[u8]]) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Another test may have been first.
    let _ = provider.as_ref().clone().install_default();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = |version: Version, ConnectInfo(client): ConnectInfo<SocketAddr>| async move {
        beat::yield_now().await;
        format!("{version:?} {}", client.ip())
    };
    let router = Router::new().route("/", get(answer)).into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel();
    let signal = async { drop(stopped.await) };
    let server = beat::serve(TlsListener::new(listener, config), router).with_graceful_shutdown(signal);
    assert_eq!(server.local_addr().unwrap(), addr);
    let end = beat::spawn(server.into_future());
    Server { addr, certificate: reqwest::Certificate::from_der(cert.der()).unwrap(), stop, end }
}

/// A client that trusts the server's certificate, and nobody else.
fn client(server: &Server) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([server.certificate.clone()])
        .resolve("localhost", server.addr)
        .build()
        .unwrap()
}

async fn ask(client: &reqwest::Client, port: u16) -> reqwest::Result<String> {
    client.get(format!("https://localhost:{port}/")).send().await?.error_for_status()?.text().await
}

#[beat::test(worker_threads = 2)]
async fn http_2_is_agreed_on_where_nothing_else_is_asked_for() {
    let server = start(&[]).await;
    let client = client(&server);
    let asked: Vec<_> = (0..32)
        .map(|_| {
            let client = client.clone();
            beat::spawn(async move { ask(&client, server.addr.port()).await })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap(), "HTTP/2.0 127.0.0.1");
    }
    server.stop.send(()).unwrap();
    server.end.await.unwrap().unwrap();
}

#[beat::test(worker_threads = 2)]
async fn http_1_is_spoken_where_it_is_all_there_is() {
    let server = start(&[b"http/1.1"]).await;
    // Neither TLS nor anything else.
    let mut stranger = TcpStream::connect(server.addr).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let _ = stranger.read_to_end(&mut Vec::new()).await;
    // One who never shakes hands is waited for by nobody.
    let silent = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(ask(&client(&server), server.addr.port()).await.unwrap(), "HTTP/1.1 127.0.0.1");
    // A client that trusts nobody gets nowhere.
    let wary = reqwest::Client::builder().no_proxy().tls_certs_only([]).resolve("localhost", server.addr);
    assert!(ask(&wary.build().unwrap(), server.addr.port()).await.is_err());
    server.stop.send(()).unwrap();
    server.end.await.unwrap().unwrap();
    drop(silent);
}
