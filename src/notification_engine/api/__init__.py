"""Notification Controller: HTTP, WebSocket and SSE in and out; authenticates and checks roles, no other rule."""
