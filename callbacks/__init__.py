"""What happens, and telling apps of it."""
