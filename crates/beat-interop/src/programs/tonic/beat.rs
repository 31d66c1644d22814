// A gRPC service and its client, with tonic: unary calls, streams of answers, streams both ways.

use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::super::tonic::service::{Calculator, Number, number};

fn method(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_maybe_shared(format!("/beat.Calculator/{name}")).unwrap()
}

async fn square(channel: Channel, value: u64) -> Result<u64, Code> {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = ProstCodec::<Number, Number>::default();
    let answer = client.unary(Request::new(number(value)), method("Square"), codec).await;
    answer.map(|number| number.into_inner().value).map_err(|status| status.code())
}

#[beat::main]
pub(crate) async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let signal = async { drop(stopped.await) };
    let server = beat::serve(listener, tonic::service::Routes::new(Calculator));
    let server = server.with_graceful_shutdown(signal);
    let server = beat::spawn(server.into_future());

    let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let squares: Vec<_> = (0..16).map(|value| beat::spawn(square(channel.clone(), value))).collect();
    for square in squares {
        println!("square {:?}", square.await.unwrap());
    }
    println!("too large: {:?}", square(channel.clone(), u64::MAX).await);

    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = ProstCodec::<Number, Number>::default();
    let below = client.server_streaming(Request::new(number(1_000)), method("Below"), codec).await;
    let (mut below, mut count) = (below.unwrap().into_inner(), 0);
    while let Some(number) = below.message().await.unwrap() {
        assert_eq!(number.value, count);
        count += 1;
    }
    println!("below: {count}");

    client.ready().await.unwrap();
    let codec = ProstCodec::<Number, Number>::default();
    let asked = futures::stream::iter((1..=100).map(number));
    let sums = client.streaming(Request::new(asked), method("Sums"), codec).await;
    let (mut sums, mut last) = (sums.unwrap().into_inner(), 0);
    while let Some(number) = sums.message().await.unwrap() {
        last = number.value;
    }
    println!("the last sum: {last}");
    drop(client);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
