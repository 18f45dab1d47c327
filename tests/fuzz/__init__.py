"""Fuzzing of a real engine over its sockets: HTTP after the OpenAPI document, WebSocket after the live protocol."""
