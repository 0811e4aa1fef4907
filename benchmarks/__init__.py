"""How fast the server is, beside a bare Flask view under the same gunicorn in the same run."""
