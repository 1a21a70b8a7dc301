//! The examples do what they are there to show.

use std::thread;

use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

const ADA: &[u8] = b"user=ada&password=lovelace";

on_each_store! {
    /// Whoever knows the id from before the login reads nothing, changes nothing, and cannot cycle into the session.
    fn a_login_leaves_the_old_id_nothing(store: Store) {
        let worker = &Worker::example("login", store);
        let mut ada = Visitor::default();
        assert_eq!(ada.get(worker, "").body, "nobody");
        assert_eq!(ada.post_form(worker, "login", b"user=ada&password=wrong").status, 403);
        assert_eq!(ada.cookie, None, "who is not logged in has no session");
        // A session from before, which a thief knows.
        assert_eq!(ada.post_form(worker, "login", ADA).brief(), (200, "welcome"));
        let thief = ada.clone();
        assert_eq!(ada.post_form(worker, "login", ADA).brief(), (200, "welcome"));
        assert_ne!(ada.cookie, thief.cookie);

        assert_eq!(thief.clone().get(worker, "").body, "nobody");
        let mut own = thief.clone();
        assert_eq!(own.post_form(worker, "login", b"user=ada&password=wrong").status, 403);
        assert_eq!(own.cookie, thief.cookie, "and is given no other");
        assert_eq!(own.post_form(worker, "login", ADA).brief(), (200, "welcome"), "who knows the password has their own");
        assert_eq!(own.post_form(worker, "logout", b"").brief(), (200, "goodbye"));
        assert_eq!(ada.get(worker, "").body, "ada", "which is not this one");
        assert_eq!(ada.get(worker, "logout").status, 404, "a link does not log out");
        assert_eq!(ada.clone().post_form(worker, "logout", b"").brief(), (200, "goodbye"));
        assert_eq!(ada.get(worker, "").body, "nobody");
    }

    fn a_login_that_is_sent_twice_at_once_logs_in(store: Store) {
        let worker = &Worker::example("login", store);
        let mut ada = Visitor::default();
        ada.post_form(worker, "login", ADA);
        let both: Vec<_> = thread::scope(|scope| {
            let clicks: Vec<_> = (0..2).map(|_| ada.clone()).map(|mut click| scope.spawn(move || {
                assert_eq!(click.post_form(worker, "login", ADA).brief(), (200, "welcome"));
                click
            })).collect();
            clicks.into_iter().map(|click| click.join().unwrap()).collect()
        });
        for mut click in both {
            assert_ne!(click.cookie, ada.cookie);
            assert_eq!(click.get(worker, "").body, "ada");
        }
        assert_eq!(ada.get(worker, "").body, "nobody", "by the old id");
    }

    fn a_router_has_the_sessions_in_its_data(store: Store) {
        let worker = &Worker::example("router", store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.get(worker, "").status, 200);
        assert_eq!(visitor.cookie, None);
        assert_eq!(visitor.count(worker), 1);
        assert_eq!(visitor.get(worker, "add/5").brief(), (200, "6"));
        assert_eq!(visitor.get(worker, "add/many").status, 400);
        assert_eq!(visitor.get(worker, "reset").brief(), (200, ""));
        assert_eq!(visitor.count(worker), 1);
    }
}
