"""The tools that tests share."""
