#[beat::main]
struct Main;

#[beat::test]
mod tests {}

fn main() {
    let _ = Main;
}
