"""Events, and telling apps about them."""
