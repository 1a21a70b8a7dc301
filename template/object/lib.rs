// wrangler.toml names it: one object per session.
pub use edge_session::SessionObject;

