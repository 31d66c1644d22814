// A server that takes HTTP/1 and HTTP/2, and clients of both, with hyper and hyper-util alone.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor as Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

async fn shout(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = request.version();
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes().to_ascii_uppercase(),
        Err(error) => error.to_string().into_bytes(),
    };
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let text = format!("{version:?}: {}", String::from_utf8_lossy(&body));
    Ok(Response::new(Full::from(text)))
}

async fn serve(listener: TcpListener) {
    let mut builder = auto::Builder::new(Executor::new());
    builder.http1().timer(TokioTimer::new());
    while let Ok((stream, _)) = listener.accept().await {
        let connection = builder.serve_connection(TokioIo::new(stream), service_fn(shout)).into_owned();
        drop(tokio::spawn(connection));
    }
}

#[tokio::main]
pub(crate) async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener));

    let http1: Client<_, Full<Bytes>> = Client::builder(Executor::new()).build_http();
    let http2: Client<_, Full<Bytes>> = Client::builder(Executor::new()).http2_only(true).build_http();
    for client in [http1, http2] {
        let asked: Vec<_> = (0..8)
            .map(|i| {
                let request = Request::post(&uri).body(Full::from(format!("request {i}"))).unwrap();
                tokio::spawn(client.request(request))
            })
            .collect();
        for response in asked {
            let body = response.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
            println!("{}", String::from_utf8_lossy(&body));
        }
    }
    server.abort();
}
