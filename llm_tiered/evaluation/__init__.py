"""How good each tier is on a suite of prompts, and the cheapest that is as good as the cloud."""
