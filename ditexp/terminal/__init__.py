"""What people see while a command runs: lines, progress, notices, units."""
