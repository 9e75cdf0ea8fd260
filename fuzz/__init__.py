"""Coverage-guided fuzzing: `python -m fuzz` lists the targets and says how to run them."""
