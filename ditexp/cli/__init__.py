"""What every command shares: its arguments, its configuration, its errors and exit codes."""
