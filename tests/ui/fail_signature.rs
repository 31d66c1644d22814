#[beat::main]
async fn main(arguments: Vec<String>) {
    for argument in arguments {
        println!("{argument}");
    }
}

#[beat::main]
async fn generic<T: Default>() -> T
where
    T: Clone,
{
    T::default().clone()
}

#[beat::main]
const unsafe extern "C" fn qualified() {}

#[beat::test]
async fn test(text: &str) -> usize {
    text.len()
}

struct Service;

impl Service {
    #[beat::main]
    async fn method(&self) {}
}
