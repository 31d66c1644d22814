//! Which work goes first.

/// What a piece of work is worth; waiting classes share admissions as 9 : 3 : 1.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// use beat::admission::Class;
///
/// assert_eq!(Class::default(), Class::Normal);
/// let tidied = beat::admit().class(Class::Background).spawn(async { "tidied" }).await;
/// assert_eq!(tidied.await.unwrap(), "tidied");
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What keeps the service itself going. Never refused by level.
    Critical,
    /// What somebody waits for. Refused at the level critical.
    #[default]
    Normal,
    /// What can be done later. Refused from the level medium on.
    Background,
}

impl Class {
    pub(crate) const COUNT: usize = 3;
    /// Shares of admissions while all classes wait.
    pub(crate) const WEIGHTS: [u64; Self::COUNT] = [9, 3, 1];
}
