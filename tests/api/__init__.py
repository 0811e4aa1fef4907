"""Tests of the API, with a client of the app."""
