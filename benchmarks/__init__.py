"""How fast the server is, always beside something else that was measured in the same run."""
