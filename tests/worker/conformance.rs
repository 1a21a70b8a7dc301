//! The public conformance suite, inside workerd, on the real bindings.

use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

on_each_store! {
    fn the_store_conforms(store: Store) {
        let worker = Worker::with_routes(store);
        let reply = Visitor::default().get(&worker, "conformance");
        assert_eq!(reply.brief(), (200, "the store conforms\n"));
        if store != Store::Object {
            worker.age(7200);
            worker.sweep();
            assert_eq!(worker.keys(), Vec::<String>::new(), "and the suite leaves nothing behind but what expires");
        }
    }
}
