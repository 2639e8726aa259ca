"""What runs leave on the disk, and how it is read."""
