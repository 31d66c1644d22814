//! The service of both forms: what `protoc` would have generated, by hand.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// A number: the one message there is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Number {
    #[prost(uint64, tag = "1")]
    pub(super) value: u64,
}

pub(super) fn number(value: u64) -> Number {
    Number { value }
}

type Numbers = Pin<Box<dyn Stream<Item = Result<Number, Status>> + Send>>;

/// Sums as a stream, squares, and the numbers below one.
#[derive(Clone, Debug)]
pub(super) struct Calculator;

impl NamedService for Calculator {
    const NAME: &'static str = "beat.Calculator";
}

impl tower::Service<http::Request<Body>> for Calculator {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Number, Number>::default());
            Ok(match request.uri().path() {
                "/beat.Calculator/Square" => grpc.unary(Square, request).await,
                "/beat.Calculator/Below" => grpc.server_streaming(Below, request).await,
                "/beat.Calculator/Sums" => grpc.streaming(Sums, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct Square;

impl UnaryService<Number> for Square {
    type Response = Number;
    type Future = BoxFuture<'static, Result<Response<Number>, Status>>;

    fn call(&mut self, request: Request<Number>) -> Self::Future {
        Box::pin(async move {
            let value = request.into_inner().value;
            let square = value.checked_mul(value).ok_or_else(|| Status::out_of_range("too large"))?;
            Ok(Response::new(number(square)))
        })
    }
}

struct Below;

impl ServerStreamingService<Number> for Below {
    type Response = Number;
    type ResponseStream = Numbers;
    type Future = BoxFuture<'static, Result<Response<Numbers>, Status>>;

    fn call(&mut self, request: Request<Number>) -> Self::Future {
        let below = 0..request.into_inner().value;
        let numbers: Numbers = Box::pin(futures::stream::iter(below.map(|value| Ok(number(value)))));
        Box::pin(async { Ok(Response::new(numbers)) })
    }
}

struct Sums;

impl StreamingService<Number> for Sums {
    type Response = Number;
    type ResponseStream = Numbers;
    type Future = BoxFuture<'static, Result<Response<Numbers>, Status>>;

    fn call(&mut self, request: Request<Streaming<Number>>) -> Self::Future {
        let sums = futures::stream::try_unfold((request.into_inner(), 0), |(mut stream, sum)| async move {
            tokio::time::sleep(std::time::Duration::from_micros(100)).await;
            Ok(stream.message().await?.map(|next| (number(sum + next.value), (stream, sum + next.value))))
        });
        let sums: Numbers = Box::pin(sums);
        Box::pin(async { Ok(Response::new(sums)) })
    }
}
