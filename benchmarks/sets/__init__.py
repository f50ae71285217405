"""Real prompts in many classes, out of wheels that carry them."""
