//! The list that users copy for clippy.

use std::collections::HashSet;

#[test]
fn the_list_for_clippy_can_be_copied() {
    let text = include_str!("../../../docs/clippy.toml");
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table.len(), 1, "nothing else is set in the user's project");
    let mut seen = HashSet::new();
    for entry in table["disallowed-methods"].as_array().unwrap() {
        let entry = entry.as_table().unwrap();
        let path = entry["path"].as_str().unwrap();
        assert!(seen.insert(path), "{path} is there twice");
        // A user of less than everything must not be told of what is not there.
        assert_eq!(entry["allow-invalid"].as_bool(), Some(true), "{path}");
        assert!(entry["reason"].as_str().unwrap().contains("beat::"), "{path}: what to use instead?");
        assert_eq!(entry.len(), 3, "{path}");
    }
    for path in ["tokio::spawn", "tokio::task::spawn_blocking", "axum::serve::serve"] {
        assert!(seen.contains(path), "{path}");
    }
}
