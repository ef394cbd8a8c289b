"""What people look at: the report of a night, the state of a lake, progress."""
