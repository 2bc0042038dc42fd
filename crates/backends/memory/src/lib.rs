//! The memory backend: the reference model of the backend contract
