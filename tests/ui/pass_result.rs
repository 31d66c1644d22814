//! `main` returns a `Result`: `?`, an early return and the last value all have its type, also
//! where only the return type can tell the error's.

use std::error::Error;

#[beat::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let number: u32 = std::future::ready("42").await.parse()?;
    if number == 42 {
        return Ok(());
    }
    Err("42 was expected")?
}
