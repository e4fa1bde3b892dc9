"""Many prompts from a file, answered side by side, and taken up again where they were left."""
