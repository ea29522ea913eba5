"""The command `framework doctor`, which examines whether this machine or cluster can train, and gives advice."""
