"""The same prompt through several tiers, side by side."""
