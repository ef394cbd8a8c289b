"""hbpipe."""
