"""Discord, and requests to other servers."""
