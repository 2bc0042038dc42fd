//! The hub: topics, publishing, tailing, subscriptions and replay over any backend
