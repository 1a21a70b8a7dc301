//! A new id at login, and replies that arrive late.

use std::thread;

use serde_json::json;

use crate::gate::Gate;
use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

/// Sends it now, and does the rest while its handler runs.
fn meanwhile(worker: &Worker, visitor: &Visitor, path: &str, rest: impl FnOnce()) -> crate::visitor::Reply {
    let gate = Gate::new(worker);
    thread::scope(|scope| {
        let slow = scope.spawn(|| visitor.clone().get(worker, &gate.before(path)));
        gate.has(1);
        rest();
        gate.open();
        slow.join().unwrap()
    })
}

on_each_store! {
    /// Whoever knows the id from before reads nothing, changes nothing, and cannot cycle into the session.
    fn a_login_leaves_the_old_id_nothing(store: Store) {
        let worker = Worker::shared_routes(store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(worker), 1);
        let thief = visitor.clone();
        assert_eq!(visitor.get(worker, "login").body, "101");
        assert_ne!(visitor.cookie, thief.cookie);

        assert_eq!(thief.clone().get(worker, "whoami").body, "0");
        let reply = thief.clone().get(worker, "count");
        assert_eq!((reply.brief(), reply.set_cookie()), ((200, "1"), None), "an empty session that stores nothing");
        let mut own = thief.clone();
        assert_eq!(own.get(worker, "login").body, "100", "a session of its own");
        assert_eq!(own.count(worker), 101);
        assert_eq!(visitor.get(worker, "whoami").body, "101");
        assert_eq!(visitor.count(worker), 102);
    }

    fn a_logout_with_the_old_id_within_the_grace_ends_the_session(store: Store) {
        let worker = Worker::shared_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let mut same_page = visitor.clone();
        visitor.get(worker, "login");
        assert_eq!(same_page.get(worker, "reset").brief(), (200, ""));
        assert_eq!(same_page.cookie, None);
        assert_eq!(visitor.get(worker, "whoami").body, "0", "ended under the new id too");
    }

    fn a_slow_reply_that_arrives_after_the_logins_does_not_log_the_visitor_out(store: Store) {
        let worker = &Worker::with_routes_and(store, json!({"touch_after": 0}));
        for path in ["slow-count", "slow-look"] {
            let mut visitor = Visitor::default();
            visitor.count(worker);
            // In the same browser: whose cookie jar is the visitor's.
            let slow = meanwhile(worker, &visitor.clone(), path, || {
                assert_eq!(visitor.get(worker, "login").body, "101");
            });
            assert_eq!((slow.status, slow.set_cookie()), (200, None), "{path}");
            assert_eq!(visitor.get(worker, "whoami").body, "101", "{path}");
        }
    }

    fn a_slow_logout_ends_the_session_that_logged_in_meanwhile(store: Store) {
        let worker = Worker::shared_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let slow = meanwhile(worker, &visitor.clone(), "slow-reset", || {
            assert_eq!(visitor.get(worker, "login").body, "101");
        });
        assert_eq!(slow.brief(), (200, ""));
        assert_eq!(visitor.get(worker, "whoami").body, "0");
    }
}

on_d1_and_object! {
    /// One voucher, ten requests that have loaded it, and a logout before any of them takes it.
    fn a_voucher_is_spent_at_most_once(store: Store) {
        let worker = Worker::shared_routes(store);
        for with_a_logout in [false, true] {
            let mut visitor = Visitor::default();
            visitor.count(worker);
            let gate = &Gate::new(worker);
            let replies: Vec<_> = thread::scope(|scope| {
                let orders: Vec<_> = (0..10)
                    .map(|_| visitor.clone())
                    .map(|mut visitor| scope.spawn(move || visitor.get(worker, &gate.before("slow-update"))))
                    .collect();
                gate.has(10);
                if with_a_logout {
                    assert_eq!(visitor.clone().get(worker, "reset").status, 200);
                }
                gate.open();
                orders.into_iter().map(|order| order.join().unwrap()).collect()
            });
            let taken = replies.iter().filter(|reply| reply.brief() == (200, "1")).count();
            assert_eq!(taken, usize::from(!with_a_logout), "{replies:?}");
            let told = if with_a_logout { (401, "Session expired") } else { (200, "0") };
            assert!(replies.iter().filter(|reply| reply.brief() != (200, "1")).all(|reply| reply.brief() == told), "{replies:?}");
            assert!(replies.iter().all(|reply| reply.set_cookie().is_none()), "{replies:?}");
        }
    }
}
