"""What local models cost here: measured through llm, and next to mlx_lm by itself."""
