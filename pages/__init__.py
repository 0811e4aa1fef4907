"""Pages for people: the server, and the API to read and try out."""
