//! What is said in a panic may be anything, so it is told nowhere. The hook is the process's, hence the one test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use mesh::{panic_guard, testing::log::Lines};

#[test]
fn a_panic_is_logged_by_where_it_was_and_not_by_what_it_says() {
    let (lines, _guard) = Lines::of_this_thread();
    panic_guard::log_where_only();
    let number = "4242424242424242";
    let caught = panic_guard::catch(|| panic!("no such card: {number}"));
    let _ = std::panic::take_hook();
    assert!(caught.is_err());
    let lines = lines.read();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("panics.rs:"), "{lines:?}");
    assert!(!lines[0].contains(number) && !lines[0].contains("card"), "{lines:?}");
}
