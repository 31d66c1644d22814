#[beat::test]
#[test]
async fn test() {}

#[beat::test]
#[should_panic]
#[::core::prelude::v1::test]
async fn with_a_path() {
    panic!();
}

fn main() {}
