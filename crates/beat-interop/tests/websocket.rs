//! axum's WebSockets on Beat's workers.

use axum::Router;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::routing::get;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// The callback is a task of tokio's; what it does with the socket is one of Beat's.
#[beat::test(worker_threads = 2)]
async fn what_is_done_after_an_upgrade_can_be_spawned() {
    let upgrade = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|socket| async {
            let talk = async {
                // Only in a task of Beat's is there one.
                beat::task::id();
                echo(socket).await;
            };
            drop(beat::spawn(talk).await);
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("ws://{}/", listener.local_addr().unwrap());
    let server = beat::serve(listener, Router::new().route("/", get(upgrade)));
    let server = beat::spawn(server.into_future()).abort_on_drop();
    let (mut socket, _) = connect_async(uri).await.unwrap();
    for i in 0..10 {
        let message = Message::text(i.to_string());
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    // The callback's own task, which waits for the other; the driver's next look finds it.
    let metrics = || beat::Handle::current().metrics();
    while metrics().foreign_spawned == 0 {
        beat::yield_now().await;
    }
    assert_eq!((metrics().foreign_tasks, metrics().foreign_spawned), (1, 1));
    socket.close(None).await.unwrap();
    drop(server);
}
