#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
