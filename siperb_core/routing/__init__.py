"""dial patterns, weights and their explanation, pure."""
