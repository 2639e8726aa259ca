"""What a shell command does around its work."""
