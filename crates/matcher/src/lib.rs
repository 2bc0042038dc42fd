//! Event patterns: parsing, evaluation and the set of all live filters of a topic
