//! The compiler's own errors point into the body and its signature.

#[beat::main]
async fn main() -> Result<(), std::fmt::Error> {
    let number: u32 = "42";
    std::future::ready(number).await
}

#[beat::main]
async fn question_mark() {
    std::fs::read("file")?;
}

#[beat::main]
async fn no_value() -> u32 {
    std::future::ready(1).await;
}
