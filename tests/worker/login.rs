//! A new id at login.

use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

on_each_store! {
    fn after_a_login_the_old_id_leads_on_for_a_while_and_a_logout_ends_both(store: Store) {
        let worker = &Worker::with_conformance(store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(worker), 1);
        let mut same_page = visitor.clone();
        assert_eq!(visitor.get(worker, "login").body, "101");
        assert_ne!(visitor.cookie, same_page.cookie);
        let reply = same_page.get(worker, "count");
        assert_eq!((reply.body.as_str(), reply.set_cookie()), ("102", None), "in the session, and not told its id");
        assert_eq!(visitor.count(worker), 103);

        let mut elsewhere = visitor.clone();
        assert_eq!(same_page.get(worker, "reset").brief(), (200, ""));
        assert_eq!(elsewhere.count(worker), 1, "ended under the new id too");
    }
}
