"""Coverage-guided fuzzing of what reads untrusted input; see README.md."""
