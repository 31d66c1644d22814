// The redis client with one connection for many tasks, against a little server of the program's own.

use redis::AsyncCommands;
use tokio::net::TcpListener;

use super::super::redis::server::{Store, serve};

async fn accept(listener: TcpListener) {
    let store = Store::default();
    while let Ok((stream, _)) = listener.accept().await {
        drop(beat::spawn(serve(stream, Store::clone(&store))));
    }
}

#[beat::main]
pub(crate) async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("redis://{}/", listener.local_addr().unwrap());
    let server = beat::spawn(accept(listener));

    let client = redis::Client::open(uri).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let tasks: Vec<_> = (1..=32_i64)
        .map(|n| {
            let mut connection = connection.clone();
            beat::spawn(async move { connection.incr::<_, _, i64>("sum", n).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let sum: i64 = connection.get("sum").await.unwrap();
    let none: Option<String> = connection.get("nothing").await.unwrap();
    let (set, got): (String, String) =
        redis::pipe().set("name", "beat").get("name").query_async(&mut connection).await.unwrap();
    println!("sum {sum}, nothing {none:?}, set {set}, got {got}");
    server.abort();
}
