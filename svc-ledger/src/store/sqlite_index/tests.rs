//! The contract, with a generation and a budget of any size, and what only this index promises.

use super::*;

fn fresh(tuning: Tuning) -> (SqliteIndex, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SqliteIndex::tuned(&dir.path().join("index.db"), tuning).unwrap(), dir)
}

mod as_it_is {
    crate::store::index_contract::suite!(super::fresh(super::Tuning::default()));
}

/// Many generations, and several calls to a page.
mod with_short_generations_and_a_small_budget {
    const TUNING: super::Tuning = super::Tuning { generation: 7, budget: 9, log_pages: 0 };
    crate::store::index_contract::suite!(super::fresh(TUNING));
}

/// Long generations, and one movement to a call.
mod with_the_smallest_budget {
    const TUNING: super::Tuning = super::Tuning { generation: 150, budget: 1, log_pages: 4 };
    crate::store::index_contract::suite!(super::fresh(TUNING));
}
