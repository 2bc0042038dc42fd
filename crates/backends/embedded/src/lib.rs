//! The embedded backend: an event log in a local folder
