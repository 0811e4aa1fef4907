"""Tests with real servers and programs."""
