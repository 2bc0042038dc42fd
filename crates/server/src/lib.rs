//! The server: HTTP, gRPC, configuration and metrics over the hub
