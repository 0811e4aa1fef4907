"""Tests: through HTTP, against a real SQLite file, with real sockets where the product has them."""
