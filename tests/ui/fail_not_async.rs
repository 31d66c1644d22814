#[beat::main]
fn main() -> Result<(), std::fmt::Error> {
    std::future::ready(Ok(())).await
}

#[beat::test]
fn test() {}
