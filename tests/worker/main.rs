//! The Worker itself, in workerd, over HTTP. `make build` first, which `make test` does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod gate;
mod launcher;
mod visitor;

/// Each test on each store: a function of a [`launcher::Store`] becomes three tests.
macro_rules! on_each_store {
    ($($(#[$attribute:meta])* fn $name:ident($store:ident: Store) $body:block)*) => {$(
        tests_on!($(#[$attribute])* $name, $store, $body, on_kv Kv, on_d1 D1, on_object Object);
    )*};
}

/// Likewise, for tests that look into the store or change what lies there, which objects do not let them.
macro_rules! on_kv_and_d1 {
    ($($(#[$attribute:meta])* fn $name:ident($store:ident: Store) $body:block)*) => {$(
        tests_on!($(#[$attribute])* $name, $store, $body, on_kv Kv, on_d1 D1);
    )*};
}

/// Likewise, for what is promised where updates are exact.
macro_rules! on_d1_and_object {
    ($($(#[$attribute:meta])* fn $name:ident($store:ident: Store) $body:block)*) => {$(
        tests_on!($(#[$attribute])* $name, $store, $body, on_d1 D1, on_object Object);
    )*};
}

macro_rules! tests_on {
    ($(#[$attribute:meta])* $name:ident, $store:ident, $body:block, $($test:ident $variant:ident),*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$attribute])*
            fn on($store: Store) $body

            $(
                #[test]
                fn $test() {
                    on(Store::$variant);
                }
            )*
        }
    };
}

mod compare;
mod concurrency;
mod conformance;
mod cookies;
mod crash;
mod examples;
mod failures;
mod faults;
mod login;
mod objects;
mod parameters;
mod places;
mod readme;
mod seed;
mod users;
