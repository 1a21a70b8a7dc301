//! The Worker itself, in workerd, over HTTP. `make build` first, which `make test` does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod launcher;
mod visitor;

/// Each test on each store: a function of a [`launcher::Store`] becomes two tests.
macro_rules! on_each_store {
    ($($(#[$attribute:meta])* fn $name:ident($store:ident: Store) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$attribute])*
            fn on($store: Store) $body

            #[test]
            fn on_kv() {
                on(Store::Kv);
            }

            #[test]
            fn on_d1() {
                on(Store::D1);
            }
        }
    )*};
}

mod concurrency;
mod conformance;
mod cookies;
mod failures;
mod parameters;
mod readme;
mod seed;
