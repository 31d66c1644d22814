// Two echoes by WebSocket, axum's and tokio-tungstenite's, and clients of them.

use axum::Router;
use axum::extract::ws::{Message as AxumMessage, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, connect_async};

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let AxumMessage::Text(text) = message {
            let text = format!("axum: {text}");
            if socket.send(AxumMessage::Text(text.into())).await.is_err() {
                return;
            }
        }
    }
}

async fn echo_tungstenite(stream: TcpStream) {
    let mut socket = accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            socket.send(Message::text(format!("tungstenite: {text}"))).await.unwrap();
        }
    }
}

async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(beat::spawn(echo_tungstenite(stream)));
    }
}

async fn talk(uri: String, client: u32) -> String {
    let (mut socket, _) = connect_async(uri).await.unwrap();
    let mut last = String::new();
    for i in 0..20 {
        socket.send(Message::text(format!("{client}.{i}"))).await.unwrap();
        last = socket.next().await.unwrap().unwrap().into_text().unwrap().to_string();
    }
    socket.close(None).await.unwrap();
    last
}

#[beat::main]
pub(crate) async fn main() {
    let router =
        Router::new().route("/", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uris = [listener.local_addr(), other.local_addr()].map(|addr| format!("ws://{}/", addr.unwrap()));
    let servers =
        [beat::spawn(async { drop(beat::serve(listener, router).await) }), beat::spawn(accept(other))];
    for uri in uris {
        let clients: Vec<_> = (0..8).map(|client| beat::spawn(talk(uri.clone(), client))).collect();
        for client in clients {
            println!("{}", client.await.unwrap());
        }
    }
    for server in &servers {
        server.abort();
    }
}
