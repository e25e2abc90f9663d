"""Every wrong input that somebody has tried, with the exit code and the one line that answers it."""
